//! What keeps operators' decisions when the store does not: nothing but memory. What is said when they are not kept.

use std::io;

use kernel::overrides::{Loaded, OverrideSet, OverrideStore};
use kernel::{Rule, Severity};

/// The ledger, or the file of an older version, cannot be understood.
pub(crate) const DAMAGED_OVERRIDES: Rule = Rule {
    id: "damaged-overrides",
    severity: Severity::Warning,
    title: "What operators had decided cannot be read",
    what: "The file `ledger.db` in `directory` of `[store]` was damaged, or `overrides.json`, in which an older version \
           kept the same, is not what that version wrote. The node has put the file aside and has started without it.",
    why: "Endpoints that were drained or taken down before are sent requests again, and services that were switched to \
          another tier are back at their first.",
    remedy: "See `evenkeel journal --kind endpoint --kind service` for what was decided, and take the decisions that \
             still hold anew with `evenkeel endpoint drain`, `evenkeel endpoint down` and `evenkeel service failover`. Or \
             stop the node and bring back the last backup with `evenkeel restore`.",
    example: "[store]\ndirectory = \"/var/lib/evenkeel\"",
};

/// The ledger cannot be written, or not be read.
pub(crate) const OVERRIDES_NOT_KEPT: Rule = Rule {
    id: "overrides-not-kept",
    severity: Severity::Warning,
    title: "What operators decide does not survive a restart",
    what: "`directory` of `[store]` cannot be made, read or written, or nothing is kept because `enabled` is `false`. \
           Decisions are in force, and are kept in memory alone.",
    why: "After a restart an endpoint that was drained would be sent requests again.",
    remedy: "Make room if the disk is full. Else let the user that Evenkeel runs as write to the directory, or name \
             another one; it is tried again each second. With systemd, \
             `StateDirectory=evenkeel` makes `/var/lib/evenkeel`. Each node needs a directory of its own.",
    example: "[store]\ndirectory = \"${env:STATE_DIRECTORY}\"",
};

/// Keeps decisions as long as the process runs.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl OverrideStore for MemoryStore {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn load(&self) -> io::Result<Loaded> {
        Ok(Loaded::default())
    }

    fn save(&self, _set: &OverrideSet) -> io::Result<()> {
        Err(io::Error::other("this node keeps nothing on disk"))
    }
}
