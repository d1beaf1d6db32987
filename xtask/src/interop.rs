//! `cargo xtask interop [--short]`: clients and peers that nobody here wrote, against the release binary. It prepares what
//! `tests/interop/run.py` needs (a Python environment and Node packages in the target directory, programs from Debian)
//! and runs it; the script decides what is tested and ends with a status.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::workspace::{Profile, Workspace};
use crate::{program, sh};

/// Where the script and its lists of packages are.
const FOLDER: &str = "tests/interop";
/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 6] = [
    ("javac", "default-jdk-headless"),
    ("curl", "curl"),
    ("wrk", "wrk"),
    ("slowhttptest", "slowhttptest"),
    ("node", "nodejs"),
    ("promtool", "prometheus"),
];

/// Where Debian puts the JDBC driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

pub(crate) fn command(workspace: &Workspace, mut args: Args) -> Result<()> {
    let short = args.flag("--short");
    args.end()?;
    run(workspace, short)
}

pub(crate) fn run(workspace: &Workspace, short: bool) -> Result<()> {
    let folder = workspace.root.join(FOLDER);
    let script = folder.join("run.py");
    ensure!(script.is_file(), "there is no {}", script.display());
    for (name, package) in PROGRAMS {
        program::debian(name, package)?;
    }
    program::debian_file(JDBC, "libpostgresql-jdbc-java")?;
    let postgres = program::postgres()?;
    let own = workspace.target.join("interop");
    fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
    let requirements = folder.join("requirements.txt");
    let requirements =
        fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let python = program::python_with(&own.join("python"), &packages(&requirements))?;
    let modules = node(&folder, &own.join("node"))?;
    let binary = workspace.build(Profile::Release)?;
    let mut run = Command::new(python);
    run.current_dir(&workspace.root).arg("-u").arg(&script).arg("--binary").arg(binary);
    run.env("POSTGRES", postgres);
    if short {
        run.arg("--short");
    }
    if let Some(modules) = modules {
        run.env("NODE_PATH", modules);
    }
    sh::run(&mut run)
}

/// The packages of a `requirements.txt`.
fn packages(requirements: &str) -> Vec<&str> {
    let lines = requirements.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Installs the Node packages that `package.json` (in the folder or in its `node`) names; returns their folder.
pub(crate) fn node(folder: &Path, into: &Path) -> Result<Option<std::path::PathBuf>> {
    let Some(from) =
        [folder.join("node"), folder.to_owned()].into_iter().find(|dir| dir.join("package.json").is_file())
    else {
        return Ok(None);
    };
    let npm = program::debian("npm", "npm")?;
    fs::create_dir_all(into).with_context(|| format!("making {}", into.display()))?;
    let mut wanted = String::new();
    let locked = from.join("package-lock.json").is_file();
    for name in ["package.json", "package-lock.json"].into_iter().take(1 + usize::from(locked)) {
        let text =
            fs::read_to_string(from.join(name)).with_context(|| format!("reading {}", from.join(name).display()))?;
        fs::write(into.join(name), &text).with_context(|| format!("writing into {}", into.display()))?;
        wanted += &text;
    }
    let modules = into.join("node_modules");
    let mark = into.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|had| had == wanted) && modules.is_dir() {
        return Ok(Some(modules));
    }
    let verb = if locked { "ci" } else { "install" };
    sh::run(Command::new(npm).current_dir(into).args([verb, "--no-audit", "--no-fund", "--ignore-scripts"]))?;
    fs::write(&mark, wanted).with_context(|| format!("writing {}", mark.display()))?;
    Ok(Some(modules))
}

#[cfg(test)]
mod tests {
    use super::packages;

    #[test]
    fn requirements_are_read_without_comments() {
        assert_eq!(packages("# clients\nhttpx==0.28.1\n\nh11>=0.16 # parser\n"), ["httpx==0.28.1", "h11>=0.16"]);
    }
}
