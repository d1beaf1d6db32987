//! How many descriptors the process may have. A gateway needs one for each client and one for each upstream
//! connection; the soft limit that shells and service managers give (often 1,024) is far below what is allowed.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit; gives the limit in force (`None`: none).
pub(crate) fn raise_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
    }
    getrlimit(Resource::Nofile).current
}
