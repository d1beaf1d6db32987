//! What operators decide, from the call to the disk to the data plane: which names there are, what may be done, what is
//! kept, and what is said about it.
//!
//! ```text
//! start    => what was kept goes into the first plan, before the first request
//! action   => checked, kept on disk, put in force, acknowledged; one at a time
//!             cannot be kept: in force all the same, and the answer says that a restart will forget it
//! reload   => the new plan carries what is in force
//! look     => each second: what another process that has the same store decided is in force here too, so that at a
//!             hand-over no decision is lost, whichever of the two took it; what could not be kept is tried again
//! ```
//! A decision about a name that the configuration does not have (any more) waits for the name to return, and goes when it
//! is taken back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use console::view::{Acted, ActionError, EndpointAction, Order, ServiceAction};
use gateway::inspect::ServiceView;
use gateway::plan::ForcedPlan;
use gateway::{Gateway, UnknownName};
use kernel::metrics::{Collect, Family, MetricKind, Shared, Sink};
use kernel::overrides::{
    Decision, EndpointOverride, MAX_OVERRIDES, MAX_REASON_CHARS, OverrideSet, OverrideStore, TakenOut, TierOverride,
};
use kernel::{Clock, Event, Journal};
use policy::outlier::Forced;

use crate::overrides::{DAMAGED_OVERRIDES, OVERRIDES_NOT_KEPT};

/// How long an action waits for its record.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);

/// The data plane as far as operators steer it.
pub(crate) trait Plane {
    /// How services are.
    fn services(&self) -> Vec<ServiceView>;
    /// Takes an endpoint out, or gives it back.
    fn force_endpoint(&self, service: &str, endpoint: &str, forced: Option<Forced>) -> Result<(), UnknownName>;
    /// Sends a service's requests to one tier, or gives the choice back.
    fn force_tier(&self, service: &str, tier: Option<u8>) -> Result<(), UnknownName>;
}

impl Plane for Gateway {
    fn services(&self) -> Vec<ServiceView> {
        self.view().services
    }
    fn force_endpoint(&self, service: &str, endpoint: &str, forced: Option<Forced>) -> Result<(), UnknownName> {
        Gateway::force_endpoint(self, service, endpoint, forced)
    }
    fn force_tier(&self, service: &str, tier: Option<u8>) -> Result<(), UnknownName> {
        Gateway::force_tier(self, service, tier)
    }
}

/// Operators' decisions of a node.
#[derive(Debug)]
pub(crate) struct Operations {
    store: Arc<dyn OverrideStore>,
    journal: Journal,
    clock: Clock,
    /// Held from the look at what is in force to the end of an action or a reload; a disk may be waited for under it.
    turn: Mutex<()>,
    /// Locked for moments only. Changed by whoever has the turn.
    state: Mutex<State>,
    taken: Shared,
    refused: Shared,
}

#[derive(Debug, Default)]
struct State {
    set: OverrideSet,
    /// Why what is in force is not what is on disk.
    not_kept: Option<String>,
    /// What was lost at the start.
    damage: Option<String>,
}

/// A reason as the journal tells it: to take something back needs none.
fn in_words_or_none(reason: &str) -> String {
    if reason.is_empty() { "no reason was given".to_owned() } else { reason.to_owned() }
}

/// A service that is there.
struct Known(ServiceView);

impl Operations {
    /// Reads what `store` has kept; what cannot be read is said, and the node starts without it.
    /// What operators do is told to `journal`.
    pub(crate) fn open(store: Arc<dyn OverrideStore>, clock: Clock, journal: Journal) -> Operations {
        let mut state = State::default();
        match store.load() {
            Ok(loaded) => (state.set, state.damage) = (loaded.set, loaded.damage),
            Err(error) => {
                let why = format!("cannot read {}: {}", store.place(), crate::config::plain(&error));
                tracing::error!(id = OVERRIDES_NOT_KEPT.id, remedy = OVERRIDES_NOT_KEPT.remedy, "{why}");
                state.not_kept = Some(why);
            }
        }
        if let Some(damage) = &state.damage {
            tracing::error!(id = DAMAGED_OVERRIDES.id, remedy = DAMAGED_OVERRIDES.remedy, "{damage}");
        }
        if !state.set.is_empty() {
            tracing::info!(
                decisions = state.set.len(),
                place = store.place(),
                "what operators had decided is in force"
            );
        }
        Operations {
            store,
            journal,
            clock,
            turn: Mutex::default(),
            state: Mutex::new(state),
            taken: Shared::default(),
            refused: Shared::default(),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in force what another process has decided that has the same store open, and tries to keep what could not be
    /// kept before. Whether anything is different now. May wait for a disk.
    pub(crate) fn look(&self, plane: &dyn Plane) -> bool {
        let _turn = self.turn();
        let before = self.state().set.clone();
        if self.state().not_kept.is_some() {
            // First, because what is read next counts.
            if self.store.save(&before).is_err() {
                return false;
            }
            self.state().not_kept = None;
            tracing::info!(place = self.store.place(), "what operators decided is kept again");
        }
        // The next look will tell; the store says in its own words that it cannot be read.
        let Ok(Some(set)) = self.store.news() else { return false };
        for (service, endpoint) in named(&before).union(&named(&set)) {
            let state = |of: &OverrideSet| of.endpoint(service, endpoint).map(|decided| decided.state);
            if state(&before) != state(&set) {
                // One that is not there waits for its return.
                let _there = plane.force_endpoint(service, endpoint, state(&set).map(forced)).is_ok();
            }
        }
        for service in before.services.keys().chain(set.services.keys()) {
            let tier = |of: &OverrideSet| of.services.get(service).map(|decided| decided.tier);
            if tier(&before) != tier(&set) {
                let _there = plane.force_tier(service, tier(&set)).is_ok();
            }
        }
        let decisions = set.len();
        self.state().set = set;
        tracing::info!(decisions, "what operators decided at another process is in force");
        true
    }

    /// Puts a plan in force with what was decided; no decision comes between.
    pub(crate) fn put_in_force<T>(&self, plan: &mut gateway::Plan, apply: impl FnOnce(&gateway::Plan) -> T) -> T {
        let _turn = self.turn();
        let set = self.state().set.clone();
        plan.forced = forced_plan(&set);
        let names: Vec<_> = plan.services.iter().map(|s| (s.name.as_str(), s.endpoints.as_slice())).collect();
        for (service, endpoints) in &set.endpoints {
            let known = names.iter().find(|(name, _)| name == service);
            for (endpoint, decided) in endpoints {
                if !known.is_some_and(|(_, endpoints)| endpoints.iter().any(|e| e.name == *endpoint)) {
                    let state = decided.state.word();
                    tracing::warn!(
                        service,
                        endpoint,
                        state,
                        "decided about an endpoint that is not there: kept for later"
                    );
                }
            }
        }
        for service in set.services.keys().filter(|name| !names.iter().any(|(known, _)| known == name)) {
            tracing::warn!(service, "a tier was chosen for a service that is not there: kept for later");
        }
        apply(plan)
    }

    /// See [`console::Node::endpoint_action`].
    pub(crate) fn endpoint_action(
        &self,
        plane: &dyn Plane,
        (service, endpoint): (&str, &str),
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        let _turn = self.turn();
        let before = self.state().set.clone();
        let outcome = self.act_on_endpoint(plane, (service, endpoint), action, order);
        let event = |kept: bool| {
            let (service, endpoint) = (service.to_owned(), endpoint.to_owned());
            let (actor, reason) = (order.actor.clone(), in_words_or_none(&order.reason));
            match action {
                EndpointAction::Drain => Event::EndpointDrained { service, endpoint, actor, reason, kept },
                EndpointAction::Down => Event::EndpointTakenDown { service, endpoint, actor, reason, kept },
                EndpointAction::Resume => Event::EndpointResumed { service, endpoint, actor, reason, kept },
            }
        };
        self.tell(&outcome, &before, event, action.word(), (service, endpoint));
        outcome
    }

    fn act_on_endpoint(
        &self,
        plane: &dyn Plane,
        (service, endpoint): (&str, &str),
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        let mut set = self.state().set.clone();
        let before = set.endpoint(service, endpoint).map(|decided| decided.state);
        let taken_out = match action {
            EndpointAction::Drain => Some(TakenOut::Drained),
            EndpointAction::Down => Some(TakenOut::Down),
            EndpointAction::Resume => None,
        };
        let Some(taken_out) = taken_out else {
            check_reason(&order.reason, false)?;
            let Some(before) = before else {
                Known::find(plane, service)?.endpoint(endpoint)?;
                return Ok(unchanged(format!("{endpoint} of {service} was not taken out; nothing has changed")));
            };
            set.set_endpoint(service, endpoint, None);
            let kept = self.keep(set);
            let there = plane.force_endpoint(service, endpoint, None).is_ok();
            let what = if there { "is judged by checks and requests again" } else { "is not in the configuration" };
            let message = format!("{endpoint} of {service} was {before} and {what}");
            return Ok(acted(message, kept));
        };
        check_reason(&order.reason, true)?;
        let known = Known::find(plane, service)?;
        let in_flight = known.endpoint(endpoint)?.traffic.in_flight;
        if before.is_none() && !order.force {
            known.check_not_last(endpoint)?;
        }
        set.set_endpoint(service, endpoint, Some(EndpointOverride { state: taken_out, by: self.decision(order) }));
        check_room(&set)?;
        let kept = self.keep(set);
        // It was there a moment ago; if a reload has taken it away since, the decision waits for its return.
        let there = plane.force_endpoint(service, endpoint, Some(forced(taken_out))).is_ok();
        let flying = match in_flight {
            _ if !there => "; it has left the configuration meanwhile".to_owned(),
            0 => "; nothing is in flight there".to_owned(),
            n => format!("; {n} in flight there {} finished", if n == 1 { "is" } else { "are" }),
        };
        Ok(acted(format!("{endpoint} of {service} is {taken_out}: it gets no new requests{flying}"), kept))
    }

    /// See [`console::Node::service_action`].
    pub(crate) fn service_action(
        &self,
        plane: &dyn Plane,
        service: &str,
        action: ServiceAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        let _turn = self.turn();
        let before = self.state().set.clone();
        let (word, outcome) = match action {
            ServiceAction::Failover { tier } => ("failover", self.fail_over(plane, service, tier, order)),
            ServiceAction::Failback => ("failback", self.fail_back(plane, service, order)),
        };
        let tier = self.state().set.services.get(service).map(|decided| decided.tier);
        let event = |kept: bool| {
            let service = service.to_owned();
            let (actor, reason) = (order.actor.clone(), in_words_or_none(&order.reason));
            match tier {
                Some(tier) => Event::ServiceSwitched { service, tier, actor, reason, kept },
                None => Event::ServiceReleased { service, actor, reason, kept },
            }
        };
        self.tell(&outcome, &before, event, word, (service, ""));
        outcome
    }

    fn fail_over(
        &self,
        plane: &dyn Plane,
        service: &str,
        tier: Option<u8>,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        check_reason(&order.reason, true)?;
        let known = Known::find(plane, service)?;
        let tier = known.tier(tier)?;
        let is_used = |e: &&gateway::inspect::EndpointView| e.tier == tier && e.healthy && e.forced.is_none();
        let usable = known.0.endpoints.iter().filter(is_used).count();
        if usable == 0 && !order.force {
            return Err(ActionError::LastEndpoint(format!(
                "no endpoint in tier {tier} of {service} can take requests, so every request might fail; \
                 force it (`force`, `--force`) if that is meant"
            )));
        }
        let mut set = self.state().set.clone();
        set.services.insert(service.to_owned(), TierOverride { tier, by: self.decision(order) });
        check_room(&set)?;
        let kept = self.keep(set);
        let there = plane.force_tier(service, Some(tier)).is_ok();
        let ready = if usable == 1 { "1 healthy endpoint".to_owned() } else { format!("{usable} healthy endpoints") };
        let message = match there {
            true => format!("{service} uses tier {tier} alone, which has {ready}"),
            false => format!("{service} has left the configuration meanwhile; tier {tier} waits for its return"),
        };
        Ok(acted(message, kept))
    }

    fn fail_back(&self, plane: &dyn Plane, service: &str, order: &Order) -> Result<Acted, ActionError> {
        check_reason(&order.reason, false)?;
        let mut set = self.state().set.clone();
        let Some(before) = set.services.get(service).map(|decided| decided.tier) else {
            Known::find(plane, service)?;
            return Ok(unchanged(format!("no tier of {service} was chosen by an operator; nothing has changed")));
        };
        set.services.remove(service);
        let kept = self.keep(set);
        let there = plane.force_tier(service, None).is_ok();
        let what = if there { "the state of its tiers decides again" } else { "it is not in the configuration" };
        Ok(acted(format!("{service} is no longer held at tier {before}: {what}"), kept))
    }

    fn decision(&self, order: &Order) -> Decision {
        let since = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Decision { actor: order.actor.clone(), reason: order.reason.clone(), at_unix_seconds: since.as_secs() }
    }

    /// Keeps `set` and puts it in the place of what was decided before. Why it is not kept, if it is not.
    fn keep(&self, set: OverrideSet) -> Result<(), String> {
        let saved = self.store.save(&set);
        let place = self.store.place();
        let kept = saved.map_err(|error| format!("cannot keep it in {place}: {}", crate::config::plain(&error)));
        if let Err(why) = &kept {
            tracing::error!(id = OVERRIDES_NOT_KEPT.id, remedy = OVERRIDES_NOT_KEPT.remedy, "{why}");
        }
        let mut state = self.state();
        (state.set, state.not_kept) = (set, kept.clone().err());
        kept
    }

    /// Tells the journal of an action that changed what was decided before, and waits for it a moment: whoever acted is
    /// told that it is done, so it should be known afterwards who did it.
    fn tell(
        &self,
        outcome: &Result<Acted, ActionError>,
        before: &OverrideSet,
        event: impl FnOnce(bool) -> Event,
        action: &str,
        (service, endpoint): (&str, &str),
    ) {
        match outcome {
            Ok(acted) => {
                self.taken.add(1);
                if self.state().set != *before {
                    let receipt = self.journal.tell_durably(event(acted.kept));
                    if let Err(error) = receipt.wait(JOURNAL_WAIT) {
                        tracing::warn!(action, service, endpoint, %error, "done, but not in the journal yet");
                    }
                }
            }
            Err(error) => {
                self.refused.add(1);
                tracing::warn!(action, service, endpoint, "not done: {error}");
            }
        }
    }

    /// What operators should know.
    pub(crate) fn notices(&self) -> Vec<String> {
        let state = self.state();
        let mut notices = Vec::new();
        if let Some(damage) = &state.damage {
            notices.push(format!("What operators had decided was lost at the start: {damage}."));
        }
        if let Some(why) = state.not_kept.as_ref().filter(|_| !state.set.is_empty()) {
            notices.push(format!("What operators decided will not survive a restart: {why}."));
        }
        notices
    }

    /// What was decided about an endpoint: in words, and how long ago.
    pub(crate) fn about_endpoint(&self, service: &str, endpoint: &str) -> Option<(String, Duration)> {
        let state = self.state();
        let decided = state.set.endpoint(service, endpoint)?;
        let verb = match decided.state {
            TakenOut::Drained => "drained",
            TakenOut::Down => "taken down",
        };
        Some((in_words(verb, &decided.by), self.age(&decided.by)))
    }

    /// What was decided about a service's tier, in words.
    pub(crate) fn about_tier(&self, service: &str) -> Option<String> {
        self.state().set.services.get(service).map(|decided| in_words("chosen", &decided.by))
    }

    fn age(&self, by: &Decision) -> Duration {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(by.at_unix_seconds));
        at.and_then(|at| self.clock.wall().duration_since(at).ok()).unwrap_or_default()
    }
}

fn in_words(verb: &str, by: &Decision) -> String {
    format!("{verb} by {}: {}", by.actor, by.reason)
}

fn acted(message: String, kept: Result<(), String>) -> Acted {
    match kept {
        Ok(()) => Acted { message: format!("{message}. This holds after a restart too."), kept: true },
        Err(why) => Acted { message: format!("{message}. A restart will forget this: {why}."), kept: false },
    }
}

fn unchanged(message: String) -> Acted {
    Acted { message: format!("{message}."), kept: true }
}

fn forced(taken_out: TakenOut) -> Forced {
    match taken_out {
        TakenOut::Drained => Forced::Drained,
        TakenOut::Down => Forced::Down,
    }
}

fn forced_plan(set: &OverrideSet) -> ForcedPlan {
    let endpoints = set.endpoints.iter().flat_map(|(service, endpoints)| {
        endpoints.iter().map(|(endpoint, decided)| (service.clone(), endpoint.clone(), forced(decided.state)))
    });
    let tiers = set.services.iter().map(|(service, decided)| (service.clone(), decided.tier));
    ForcedPlan { endpoints: endpoints.collect(), tiers: tiers.collect() }
}

/// Endpoints about which something was decided.
fn named(set: &OverrideSet) -> BTreeSet<(&str, &str)> {
    let endpoints = set.endpoints.iter();
    endpoints.flat_map(|(service, all)| all.keys().map(|endpoint| (service.as_str(), endpoint.as_str()))).collect()
}

pub(crate) fn check_reason(reason: &str, needed: bool) -> Result<(), ActionError> {
    let length = reason.chars().count();
    if needed && reason.trim().is_empty() {
        let message = "say why (`reason`, `--reason`): whoever looks at this later will want to know";
        return Err(ActionError::BadReason(message.to_owned()));
    }
    if length > MAX_REASON_CHARS {
        let message = format!("the reason has {length} characters, and {MAX_REASON_CHARS} are kept; shorten it");
        return Err(ActionError::BadReason(message));
    }
    if reason.chars().any(console::words::is_unruly) {
        return Err(ActionError::BadReason("the reason may have no line breaks or control characters".to_owned()));
    }
    Ok(())
}

fn check_room(set: &OverrideSet) -> Result<(), ActionError> {
    if set.len() <= MAX_OVERRIDES {
        return Ok(());
    }
    let message = format!("{MAX_OVERRIDES} decisions are in force, which is the most; take some back first");
    Err(ActionError::TooMany(message))
}

impl Known {
    fn find(plane: &dyn Plane, service: &str) -> Result<Known, ActionError> {
        let mut services = plane.services();
        match services.iter().position(|s| s.traffic.name == service) {
            Some(at) => Ok(Known(services.swap_remove(at))),
            None => {
                let known = services.into_iter().map(|s| s.traffic.name).collect();
                Err(ActionError::UnknownService { name: service.to_owned(), known })
            }
        }
    }

    fn endpoint(&self, endpoint: &str) -> Result<&gateway::inspect::EndpointView, ActionError> {
        self.0.endpoints.iter().find(|e| e.traffic.name == endpoint).ok_or_else(|| ActionError::UnknownEndpoint {
            service: self.0.traffic.name.clone(),
            name: endpoint.to_owned(),
            known: self.0.endpoints.iter().map(|e| e.traffic.name.clone()).collect(),
        })
    }

    /// Refuses to take out the last endpoint that requests can go to.
    fn check_not_last(&self, endpoint: &str) -> Result<(), ActionError> {
        let service = &self.0.traffic.name;
        let may_be_used = |e: &&gateway::inspect::EndpointView| {
            e.forced.is_none() && self.0.forced_tier.is_none_or(|tier| tier == e.tier)
        };
        let (this, others): (Vec<_>, Vec<_>) =
            self.0.endpoints.iter().filter(may_be_used).partition(|e| e.traffic.name == endpoint);
        // One that is outside the chosen tier takes no requests anyway.
        let Some(this) = this.first() else { return Ok(()) };
        if others.iter().any(|e| e.healthy) || (!this.healthy && !others.is_empty()) {
            return Ok(());
        }
        Err(ActionError::LastEndpoint(format!(
            "{endpoint} is the last endpoint of {service} that can take requests; without it every request fails with \
             503. Force it (`force`, `--force`) if that is meant"
        )))
    }

    /// The tier to switch to.
    fn tier(&self, wanted: Option<u8>) -> Result<u8, ActionError> {
        let (service, active) = (&self.0.traffic.name, self.0.active_tier);
        let tiers: BTreeSet<u8> = self.0.endpoints.iter().map(|e| e.tier).collect();
        let listed = tiers.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let unknown = |message| Err(ActionError::UnknownTier(message));
        match wanted {
            Some(tier) if tiers.contains(&tier) => Ok(tier),
            Some(tier) => unknown(format!("{service} has no tier {tier}; it has {listed}")),
            None if tiers.len() < 2 => unknown(format!("{service} has one tier, so there is none to switch to")),
            None => match tiers.into_iter().find(|tier| *tier > active) {
                Some(tier) => Ok(tier),
                None => {
                    unknown(format!("{service} uses its last tier, {active}; name one (`tier`, `--tier`) of {listed}"))
                }
            },
        }
    }
}

impl Collect for Operations {
    fn collect(&self, sink: &mut dyn Sink) {
        let state = self.state();
        let states = || state.set.endpoints.values().flat_map(std::collections::BTreeMap::values).map(|e| e.state);
        let count = |wanted| states().filter(|s| *s == wanted).count() as f64;
        let mut family = |name, help, kind, samples: &[(&[(&str, &str)], f64)]| {
            sink.family(Family { name, help, kind });
            samples.iter().for_each(|(labels, value)| sink.sample(labels, *value));
        };
        family(
            "evenkeel_operator_overrides",
            "Decisions of operators that are in force, by kind",
            MetricKind::Gauge,
            &[
                (&[("kind", "drained")], count(TakenOut::Drained)),
                (&[("kind", "down")], count(TakenOut::Down)),
                (&[("kind", "tier")], state.set.services.len() as f64),
            ],
        );
        family(
            "evenkeel_operator_actions_total",
            "Actions that operators asked for, by outcome",
            MetricKind::Counter,
            &[
                (&[("outcome", "taken")], self.taken.get() as f64),
                (&[("outcome", "refused")], self.refused.get() as f64),
            ],
        );
        family(
            "evenkeel_operator_overrides_kept",
            "1 if decisions of operators survive a restart, 0 if they cannot be written",
            MetricKind::Gauge,
            &[(&[], f64::from(u8::from(state.not_kept.is_none())))],
        );
        family(
            "evenkeel_operator_overrides_damaged",
            "1 if what operators had decided could not be read at the start and was put aside",
            MetricKind::Gauge,
            &[(&[], f64::from(u8::from(state.damage.is_some())))],
        );
    }
}

#[cfg(test)]
#[path = "operate_tests.rs"]
mod tests;
