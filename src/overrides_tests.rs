//! Tests of the file: what survives, what a crash leaves behind, and what is put aside.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use kernel::overrides::{Decision, EndpointOverride, TakenOut, TierOverride};

use super::*;

fn set(reason: &str) -> OverrideSet {
    let by = Decision { actor: "ops".into(), reason: reason.into(), at_unix_seconds: 1_764_000_000 };
    let mut set = OverrideSet::default();
    set.set_endpoint("shop", "127.0.0.1:1", Some(EndpointOverride { state: TakenOut::Down, by: by.clone() }));
    set.services.insert("shop".into(), TierOverride { tier: 1, by });
    set
}

/// A directory that does not exist yet, in one that goes with the test.
fn fresh() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/evenkeel-data");
    (directory, path)
}

fn opened(path: &Path) -> (FileStore, Loaded) {
    let store = FileStore::new(path.to_path_buf());
    let loaded = store.load().unwrap();
    (store, loaded)
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_there_after_a_restart_and_for_its_user_alone() {
    let (_kept, path) = fresh();
    let (store, loaded) = opened(&path);
    assert_eq!(loaded, Loaded::default());
    assert!(!path.exists(), "nothing was decided, so nothing is written");
    store.save(&set("first")).unwrap();
    store.save(&set("a reason with \"quotes\", ünicode\nand a line")).unwrap();
    assert_eq!(opened(&path).1.set, set("a reason with \"quotes\", ünicode\nand a line"));
    assert_eq!(names(&path), [FILE]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join(FILE)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_file_cut_short_anywhere_is_put_aside_whole() {
    let (_kept, path) = fresh();
    opened(&path).0.save(&set("why")).unwrap();
    let whole = fs::read(path.join(FILE)).unwrap();
    // Without its last line break it is still whole.
    for length in 0..whole.len() - 1 {
        fs::write(path.join(FILE), &whole[..length]).unwrap();
        let loaded = opened(&path).1;
        assert_eq!(loaded.set, OverrideSet::default());
        assert!(loaded.damage.unwrap().contains("overrides.json.corrupt"), "{length}");
        let aside = path.join("overrides.json.corrupt");
        assert_eq!(fs::read(&aside).unwrap(), &whole[..length]);
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn garbage_is_put_aside_and_an_earlier_one_is_not_overwritten() {
    let (_kept, path) = fresh();
    opened(&path).0.save(&set("why")).unwrap();
    let texts: [&[u8]; 5] = [
        b"\0\0\0\0",
        b"[]",
        br#"{"version":2,"endpoints":{},"services":{}}"#,
        br#"{"version":1,"endpoints":{},"services":{},"sites":{}}"#,
        br#"{"version":1,"endpoints":{"shop":{"a:1":{"state":"sleepy","by":{}}}}}"#,
    ];
    for text in texts {
        fs::write(path.join(FILE), text).unwrap();
        let (store, loaded) = opened(&path);
        assert!(loaded.damage.is_some(), "{}", String::from_utf8_lossy(text));
        // The node goes on, and keeps what is decided from now on.
        store.save(&set("new")).unwrap();
        assert_eq!(opened(&path).1.set, set("new"));
    }
    let aside = ["", "-2", "-3", "-4", "-5"].map(|n| fs::read(path.join(format!("{FILE}.corrupt{n}"))).unwrap());
    assert_eq!(aside.each_ref().map(Vec::as_slice), texts);
}

#[test]
fn with_too_many_put_aside_nothing_is_moved_or_overwritten() {
    let (_kept, path) = fresh();
    opened(&path).0.save(&set("why")).unwrap();
    for _ in 0..MAX_ASIDE {
        fs::write(path.join(FILE), "garbage").unwrap();
        opened(&path);
    }
    fs::write(path.join(FILE), "garbage").unwrap();
    let store = FileStore::new(path.clone());
    assert!(store.load().unwrap_err().to_string().contains("put aside already"));
    assert!(store.save(&set("new")).is_err());
    assert_eq!(fs::read(path.join(FILE)).unwrap(), b"garbage");
}

#[test]
fn a_temporary_file_left_by_a_crash_changes_nothing() {
    let (_kept, path) = fresh();
    opened(&path).0.save(&set("old")).unwrap();
    fs::write(path.join(TEMPORARY), &fs::read(path.join(FILE)).unwrap()[..40]).unwrap();
    fs::set_permissions(path.join(TEMPORARY), fs::Permissions::from_mode(0o444)).unwrap();
    let (store, loaded) = opened(&path);
    assert_eq!((loaded.set, loaded.damage), (set("old"), None));
    store.save(&set("new")).unwrap();
    assert_eq!((opened(&path).1.set, names(&path)), (set("new"), vec![FILE.to_owned()]));
    assert_eq!(fs::metadata(path.join(FILE)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_another_wrote_meanwhile_is_not_overwritten() {
    let (_kept, path) = fresh();
    let (store, _) = opened(&path);
    let (other, _) = opened(&path);
    other.save(&set("theirs")).unwrap();
    let told = store.save(&set("mine")).unwrap_err().to_string();
    assert!(told.contains("changed by something other than this node"), "{told}");
    assert_eq!(opened(&path).1.set, set("theirs"));
}

#[test]
fn what_cannot_be_read_or_written_is_said_and_left_alone() {
    let (_kept, path) = fresh();
    fs::create_dir_all(path.join(FILE)).unwrap();
    let store = FileStore::new(path.clone());
    assert!(store.load().is_err());
    assert!(store.save(&set("x")).unwrap_err().to_string().contains("could not be read"));
    // A file stands where the directory should be.
    let (_kept, path) = fresh();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    let store = FileStore::new(path.clone());
    assert_eq!(store.obstacle().map(|e| e.kind()), Some(io::ErrorKind::NotADirectory));
    assert!(store.load().is_err() && store.save(&set("x")).is_err());
    let (_kept, path) = fresh();
    assert!(FileStore::new(path).obstacle().is_none());
}
