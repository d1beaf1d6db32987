//! Programs that chores need and cargo does not bring. One that is missing is installed: Debian's packages when this
//! runs as root on a machine with apt-get, cargo's own in the target directory. Otherwise the error says what to install.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use anyhow::{Context, Result, bail};

use crate::sh;
use crate::workspace::Workspace;

/// Where Debian puts servers; not in everybody's PATH.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];
/// Where Debian puts the versions of Postgres.
const POSTGRES: &str = "/usr/lib/postgresql";

/// A program by its name, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A program of a Debian package; installs the package if the program is missing and that is possible.
pub(crate) fn debian(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    installed(name, package, || find(name))
}

/// A file of a Debian package; installs the package if the file is missing and that is possible.
pub(crate) fn debian_file(path: &str, package: &str) -> Result<PathBuf> {
    let find = || Some(PathBuf::from(path)).filter(|path| path.exists());
    find().map_or_else(|| installed(path, package, find), Ok)
}

fn installed(name: &str, package: &str, find_again: impl Fn() -> Option<PathBuf>) -> Result<PathBuf> {
    let remedy = format!("install the Debian package `{package}`, or put `{name}` where it is looked for");
    if !rustix::process::getuid().is_root() || find("apt-get").is_none() {
        bail!("`{name}` is not installed; {remedy}");
    }
    println!("`{name}` is not installed; installing the Debian package `{package}`");
    apt(&["install", "--yes", "--no-install-recommends", package]).context(remedy.clone())?;
    find_again().with_context(|| format!("the package was installed, yet there is no `{name}`; {remedy}"))
}

/// The folder of the newest Postgres's programs. Debian keeps them out of the PATH; its package makes a cluster of its own
/// too, which is not started here and not used.
pub(crate) fn postgres() -> Result<PathBuf> {
    let newest = || {
        let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
        let folders = std::fs::read_dir(POSTGRES).into_iter().flatten().flatten().map(|entry| entry.path());
        let whole = folders.filter(|folder| folder.join("bin/initdb").is_file());
        whole.filter_map(|folder| Some((version(&folder)?, folder))).max().map(|(_, folder)| folder.join("bin"))
    };
    match newest().or_else(|| find("initdb")?.parent().map(Path::to_owned)) {
        Some(found) => Ok(found),
        None => installed("initdb", "postgresql", newest),
    }
}

fn apt(args: &[&str]) -> Result<()> {
    static UPDATED: Once = Once::new();
    let apt = || {
        let mut apt = Command::new("apt-get");
        // With a run level, Debian's scripts start no server that was installed.
        apt.args(["-o", "DPkg::Lock::Timeout=120", "--quiet"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1");
        apt
    };
    let mut updated = Ok(());
    UPDATED.call_once(|| updated = sh::run(apt().arg("update")));
    updated?;
    sh::run(apt().args(args))
}

/// A program that cargo installs, of exactly this version, in the target directory. `probe` are arguments that make it
/// print its version.
pub(crate) fn cargo_installed(workspace: &Workspace, name: &str, version: &str, probe: &[&str]) -> Result<PathBuf> {
    let root = workspace.target.join("tools");
    let own = root.join("bin").join(name);
    let fits = |program: &Path| {
        Command::new(program)
            .args(probe)
            .output()
            .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(version))
    };
    for candidate in [Some(own.clone()), find(name)].into_iter().flatten() {
        if fits(&candidate) {
            return Ok(candidate);
        }
    }
    println!("`{name}` {version} is not installed; installing it in {}", root.display());
    let root = root.to_string_lossy().into_owned();
    let mut install = workspace.cargo(&["install", name, "--version", version, "--locked", "--root", &root]);
    // Its own build must not replace the project's artifacts, and is of no use afterwards.
    let build = workspace.target.join("tools-build");
    sh::run(install.env("CARGO_TARGET_DIR", &build))?;
    drop(std::fs::remove_dir_all(&build));
    Ok(own)
}

/// A Python environment with these packages (`name==version`), made once for each list; returns its interpreter.
pub(crate) fn python_with(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    let python = debian("python3", "python3")?;
    let mark = folder.join("installed");
    let wanted = packages.join("\n");
    let interpreter = folder.join("bin/python");
    if std::fs::read_to_string(&mark).is_ok_and(|had| had == wanted) {
        return Ok(interpreter);
    }
    let make = || Command::new(&python).args(["-m", "venv", "--clear"]).arg(folder).output();
    let mut made = make().context("starting python3")?;
    if !made.status.success() {
        // Debian keeps the module that makes environments in a package of its own.
        if rustix::process::getuid().is_root() && find("apt-get").is_some() {
            apt(&["install", "--yes", "--no-install-recommends", "python3-venv"])?;
        }
        made = make().context("starting python3")?;
    }
    if !made.status.success() {
        bail!(
            "python3 cannot make an environment in {} ({}); install the Debian package `python3-venv`",
            folder.display(),
            String::from_utf8_lossy(&made.stdout).trim()
        );
    }
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    sh::run(&mut pip).context("installing Python packages")?;
    std::fs::write(&mark, wanted).with_context(|| format!("writing {}", mark.display()))?;
    Ok(interpreter)
}
