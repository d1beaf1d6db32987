//! What a node tells of its past, beyond the snapshot: deployments that it is told of, and counts that nobody keeps.

use std::io;

use kernel::event::Event;
use kernel::tally::{Period, Step, Subject, TallyReader};

/// A deployment, by the word of whoever deployed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployMark {
    /// What was deployed: a service of the configuration, if it is one.
    pub service: String,
    /// Which version.
    pub version: String,
    /// Where to.
    pub environment: String,
    /// What came of it: succeeded, failed, started or another word of the deployer's.
    pub status: String,
    /// Who deployed it.
    pub actor: String,
    /// Where more is to be read.
    pub url: String,
    /// Who told it: `api`, `github` or `gitlab`.
    pub source: String,
    /// What the deployer calls it, so that it is told once.
    pub key: String,
}

/// The counts of a node that keeps none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTallies;

impl DeployMark {
    /// The event that tells it.
    pub fn event(&self) -> Event {
        let DeployMark { service, version, environment, status, actor, url, source, key } = self.clone();
        Event::DeployMarked { service, version, environment, status, actor, url, source, key }
    }
}

impl TallyReader for NoTallies {
    fn read(&self, _subject: &Subject, _step: Step, _from: u64, _until: u64) -> io::Result<Vec<Period>> {
        Ok(Vec::new())
    }

    fn subjects(&self) -> io::Result<Vec<Subject>> {
        Ok(Vec::new())
    }
}
