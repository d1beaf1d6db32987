//! What operators have decided against the judgement of the node: endpoints taken out, tiers switched. The types that
//! the planes, the console and whatever keeps them share, and the seam ([`OverrideStore`]) to the latter.
//!
//! A decision is named by service and endpoint as the configuration writes them. It stays until an operator takes it
//! back: through reloads, restarts, and while the name is missing from the configuration.
//!
//! Limits: [`MAX_OVERRIDES`] decisions, reasons of [`MAX_REASON_CHARS`].

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Decisions that are kept at a time. They are made by hand; a number that no hand reaches bounds the file.
pub const MAX_OVERRIDES: usize = 1_000;

/// The longest reason, in characters: a few sentences and a link.
pub const MAX_REASON_CHARS: usize = 500;

/// Every decision that is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideSet {
    /// Endpoints that were taken out: service, then endpoint.
    pub endpoints: BTreeMap<String, BTreeMap<String, EndpointOverride>>,
    /// Services whose tier was chosen.
    pub services: BTreeMap<String, TierOverride>,
}

/// An endpoint that was taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointOverride {
    /// How it was taken out.
    pub state: TakenOut,
    /// Who, when and why.
    pub by: Decision,
}

/// A service whose tier was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierOverride {
    /// The only tier that takes requests.
    pub tier: u8,
    /// Who, when and why.
    pub by: Decision,
}

/// Who decided, when and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The name of the token that was presented, or `loopback`.
    pub actor: String,
    /// In the words of the operator.
    pub reason: String,
    /// Wall time, in seconds since the Unix epoch.
    pub at_unix_seconds: u64,
}

/// How an endpoint was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakenOut {
    /// In an orderly way: no new requests.
    Drained,
    /// Because it is broken: the same, and it counts as failed.
    Down,
}

impl OverrideSet {
    /// How many decisions there are.
    pub fn len(&self) -> usize {
        self.endpoints.values().map(BTreeMap::len).sum::<usize>() + self.services.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was decided about an endpoint.
    pub fn endpoint(&self, service: &str, endpoint: &str) -> Option<&EndpointOverride> {
        self.endpoints.get(service)?.get(endpoint)
    }

    /// Puts a decision about an endpoint in force, in place of an earlier one; `None` takes it back.
    pub fn set_endpoint(&mut self, service: &str, endpoint: &str, decided: Option<EndpointOverride>) {
        let of_service = self.endpoints.entry(service.to_owned()).or_default();
        match decided {
            Some(decided) => of_service.insert(endpoint.to_owned(), decided),
            None => of_service.remove(endpoint),
        };
        self.endpoints.retain(|_, endpoints| !endpoints.is_empty());
    }
}

impl TakenOut {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            TakenOut::Drained => "drained",
            TakenOut::Down => "down",
        }
    }
}

impl fmt::Display for TakenOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whatever keeps decisions while the node does not run. Calls block, and come one at a time.
pub trait OverrideStore: fmt::Debug + Send + Sync {
    /// Where decisions are kept, in a few words for people.
    fn place(&self) -> String;

    /// Reads what was kept.
    ///
    /// # Errors
    /// When it cannot be known what was kept. Nothing must be saved then, lest it be lost.
    fn load(&self) -> io::Result<Loaded>;

    /// Keeps `set` in place of what was kept before. When this returns, a crash or a power failure loses nothing of it.
    ///
    /// # Errors
    /// When it is not certain that `set` is kept.
    fn save(&self, set: &OverrideSet) -> io::Result<()>;

    /// What is decided now, if another process has decided something since this one read or saved.
    ///
    /// # Errors
    /// When it cannot be known now.
    fn news(&self) -> io::Result<Option<OverrideSet>> {
        Ok(None)
    }
}

/// What a store had kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The decisions that could be read.
    pub set: OverrideSet,
    /// What could not be read and where it was put aside, in a sentence.
    pub damage: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_replaces_an_earlier_one_and_can_be_taken_back() {
        let mut set = OverrideSet::default();
        let decided = |state| Some(EndpointOverride { state, by: Decision::default() });
        set.set_endpoint("shop", "a:1", decided(TakenOut::Drained));
        set.set_endpoint("shop", "a:1", decided(TakenOut::Down));
        set.set_endpoint("shop", "b:1", decided(TakenOut::Drained));
        assert_eq!((set.len(), set.endpoint("shop", "a:1").map(|e| e.state)), (2, Some(TakenOut::Down)));
        set.set_endpoint("shop", "a:1", None);
        set.set_endpoint("shop", "b:1", None);
        set.set_endpoint("other", "b:1", None);
        assert_eq!(set, OverrideSet::default());
    }

    #[test]
    fn decisions_read_back_as_they_were_written() {
        let by = Decision { actor: "ops".into(), reason: "a new disk".into(), at_unix_seconds: 1_764_000_000 };
        let mut set = OverrideSet::default();
        set.set_endpoint("shop", "a:1", Some(EndpointOverride { state: TakenOut::Drained, by: by.clone() }));
        set.services.insert("shop".into(), TierOverride { tier: 1, by });
        let text = serde_json::to_string(&set).unwrap();
        assert!(text.contains(r#""a:1":{"state":"drained","by":{"actor":"ops","reason":"a new disk""#), "{text}");
        assert_eq!(serde_json::from_str::<OverrideSet>(&text).unwrap(), set);
        assert!(serde_json::from_str::<OverrideSet>(r#"{"endpoints":{},"other":1}"#).is_err());
    }
}
