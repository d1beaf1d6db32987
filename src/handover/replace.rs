//! Starting the next process: the command that this one was started with, and `--take-over`. The name of the binary is
//! looked up anew, so that a package that was upgraded meanwhile is what runs next.
//!
//! The next process is a child of this one and lives in the same unit of a service manager, as the same user, with the
//! same rights. It is not stopped with this one.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, Stdio};

/// The option that makes a node take over.
pub const TAKE_OVER: &str = "--take-over";

/// Starts it.
///
/// # Errors
/// If it cannot be started; nothing has changed then.
pub fn start() -> io::Result<Child> {
    let mut args = std::env::args_os();
    let program = args.next().ok_or_else(|| io::Error::other("this process does not know its own name"))?;
    let mut args: Vec<OsString> = args.collect();
    if !args.iter().any(|arg| arg == TAKE_OVER) {
        args.push(TAKE_OVER.into());
    }
    // Nobody but this process is meant by it; without it, whoever reads the interval keeps to it.
    Command::new(program).args(args).env_remove("WATCHDOG_PID").stdin(Stdio::null()).spawn()
}
