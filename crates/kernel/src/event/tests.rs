//! The declarations keep their form, and records have what was declared.

use super::*;

#[test]
fn declarations_are_well_formed() {
    for (i, kind) in EventKind::ALL.iter().enumerate() {
        let declared = kind.declared();
        assert_eq!((kind.index(), EventKind::from_name(declared.name)), (i, Some(*kind)));
        let (group, what) = declared.name.split_once('.').expect("a group and a word");
        for part in [group, what] {
            assert!(!part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{part}");
        }
        assert!(declared.version >= 1 && declared.meaning.trim().ends_with('.'), "{}", declared.name);
    }
}

#[test]
fn a_record_has_every_field_and_a_sentence() {
    let event = Event::EndpointEjected {
        service: "shop".into(),
        endpoint: "a:1".into(),
        from: "closed".into(),
        reason: "refused twice".into(),
    };
    assert_eq!(event.sentence(), "a:1 of shop was taken out: refused twice");
    assert_eq!((event.text("service"), event.text("actor")), (Some("shop"), None));
    assert_eq!(event.data().len(), event.kind().declared().fields.len());
}

#[test]
fn a_long_text_is_clipped_at_a_character() {
    let reason = "é".repeat(MAX_FIELD_BYTES);
    let event = Event::NodeStopping { pid: 1, reason };
    let kept = event.data()["reason"].as_str().map(str::len);
    assert_eq!(kept, Some(MAX_FIELD_BYTES));
}
