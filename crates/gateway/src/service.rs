//! What the data plane knows of a service beyond its plan: how its endpoints are judged, what second tries cost, who
//! waits at its gate or is parked. The decisions are `policy`'s; here they meet the workers.
//!
//! A plain success takes no lock: it adds to its worker's cells, which a tick sums up every 100 ms. Failures, trials and
//! results of checks lock the service's judge for a moment; what it decides is published to the endpoints' atomics.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::metrics::{Cell64, Sharded};
use kernel::{Event, Journal, Moment};
use policy::balance::Standing;
use policy::budget::{Budget, BudgetLevel, Spend};
use policy::failover::{Failover, Shares, TierState};
use policy::health;
use policy::hold::{self, HoldRule};
use policy::outlier::{Failure, Forced, Member, Outliers, State, Totals, Transition};
use policy::retry::Why;

use crate::gate::Gate;
use crate::inspect::{BudgetView, ServiceView};
use crate::park::Park;
use crate::plan::{ForcedPlan, ServicePlan};
use crate::state::{EndpointState, Traffic, traffic_view};
use crate::tallies::HandedOn;
use crate::tries::Cause;

/// How often the judges of all services look at what the workers counted.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// State and counters of a service.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) name: String,
    pub(crate) traffic: Sharded<Traffic>,
    pub(crate) handed_on: HandedOn,
    pub(crate) tries: Sharded<TryCells>,
    pub(crate) journal: Journal,
    watched: Mutex<Watched>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) park: Park,
    judge: Mutex<Judge>,
    budget: Mutex<Budget>,
    failover: Mutex<Failover>,
    /// Which tiers take the requests: the bits of [`Shares`].
    shares: AtomicU64,
    /// Whether there is more than one tier.
    tiers: AtomicU8,
    held_bytes: Arc<AtomicU64>,
    /// Answers that are being held.
    held: Arc<AtomicU32>,
}

/// What the journal was told last.
#[derive(Debug, Default)]
struct Watched {
    level: Option<BudgetLevel>,
    next_look: Moment,
    refused: u64,
    shed: u64,
}

/// Outliers, and the endpoints that they speak of.
#[derive(Debug)]
struct Judge {
    outliers: Outliers,
    members: Vec<Arc<EndpointState>>,
}

/// Second tries on one worker.
#[derive(Debug, Default)]
pub(crate) struct TryCells {
    /// By [`Cause::SECOND`].
    pub(crate) by_cause: [Cell64; Cause::SECOND.len()],
    /// Second tries that were not made, by [`Why::ALL`].
    pub(crate) refused: [Cell64; Why::ALL.len()],
    /// Answers that were held until whole.
    pub(crate) held: Cell64,
    /// Answers that were held and broke.
    pub(crate) held_broken: Cell64,
    /// Requests that stood at the gate.
    pub(crate) queued: Cell64,
    /// Requests that the gate turned away.
    pub(crate) shed: Cell64,
    /// Requests that were parked.
    pub(crate) parked: Cell64,
    /// Losers of two tries beside each other.
    pub(crate) cancelled: Cell64,
}

/// The right to be one of the requests that an endpoint works on; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    endpoint: Arc<EndpointState>,
    /// False: somebody else accounts for it, and dropping it does nothing.
    armed: bool,
}

/// The right to be the one request that tries an endpoint in doubt; given back when dropped.
#[derive(Debug)]
pub(crate) struct Trial(Arc<EndpointState>);

/// Bytes that an answer may take while it is held; given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    total: Arc<AtomicU64>,
    count: Arc<AtomicU32>,
    bytes: u64,
}

impl Place {
    /// A place at `endpoint`, if it works on fewer than `most`.
    pub(crate) fn claim(endpoint: &Arc<EndpointState>, most: Option<u32>) -> Option<Place> {
        match most {
            None => {
                endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
            }
            Some(most) => {
                let less = |n: u32| (n < most).then_some(n + 1);
                endpoint.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).ok()?;
            }
        }
        Some(Place { endpoint: endpoint.clone(), armed: true })
    }

    /// Gives it back, and to nobody in particular.
    pub(crate) fn give_back(mut self) {
        self.armed = false;
        self.endpoint.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether it is one at this endpoint.
    pub(crate) fn is_at(&self, endpoint: &Arc<EndpointState>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let endpoint = &self.endpoint;
        let gate = &endpoint.gate;
        if gate.waiting() > 0 {
            let now = endpoint.clock.now();
            let retired = endpoint.retired.load(Ordering::Relaxed);
            let good = !retired && gate.takes_tier(endpoint.tier()) && endpoint.standing(now) == Standing::Good;
            if good && gate.is_within(endpoint.in_flight.load(Ordering::SeqCst)) {
                let heir = Place { endpoint: endpoint.clone(), armed: true };
                match gate.hand_over(heir, now) {
                    None => return,
                    Some(mut back) => back.armed = false,
                }
            }
        }
        endpoint.in_flight.fetch_sub(1, Ordering::SeqCst);
        // Who came after the look above saw the old count; it gets what is free now.
        if gate.waiting() > 0 {
            gate.let_in(endpoint.clock.now());
        }
    }
}

impl Trial {
    /// The trial of `endpoint`, if nobody else has it.
    pub(crate) fn claim(endpoint: &Arc<EndpointState>) -> Option<Trial> {
        (!endpoint.trial.swap(true, Ordering::AcqRel)).then(|| Trial(endpoint.clone()))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.trial.store(false, Ordering::Release);
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServiceState {
    pub(crate) fn new(plan: &ServicePlan, workers: usize, now: Moment, journal: Journal) -> ServiceState {
        ServiceState {
            name: plan.name.clone(),
            traffic: Sharded::new(workers),
            handed_on: HandedOn::default(),
            journal,
            watched: Mutex::default(),
            tries: Sharded::new(workers),
            gate: Arc::new(Gate::new(&plan.gate)),
            park: Park::default(),
            judge: Mutex::new(Judge { outliers: Outliers::new(plan.outlier), members: Vec::new() }),
            budget: Mutex::new(Budget::new(plan.retry.budget, now)),
            failover: Mutex::new(Failover::new(plan.failover)),
            shares: AtomicU64::new(Shares::only(0).to_bits()),
            tiers: AtomicU8::new(1),
            held_bytes: Arc::default(),
            held: Arc::default(),
        }
    }

    /// Goes on under another plan, with these endpoints.
    pub(crate) fn adopt(&self, plan: &ServicePlan, forced: &ForcedPlan, members: &[Arc<EndpointState>], now: Moment) {
        self.gate.set_rule(&plan.gate);
        lock(&self.budget).set_rule(plan.retry.budget);
        lock(&self.failover).set_rule(plan.failover);
        {
            let mut judge = lock(&self.judge);
            judge.outliers.set_rule(plan.outlier);
            let known: Vec<Member> = members.iter().map(|e| Member { id: e.id, tier: e.tier() }).collect();
            let _told_by_the_reload = judge.outliers.sync(&known, now);
            if plan.health.is_none() {
                // Nobody would ever say that it is up again.
                for e in members {
                    let _logged_as_reload = judge.outliers.checked(e.id, health::Change::Up, now);
                }
            }
            for e in members {
                let said = forced.endpoints.iter().find(|(s, name, _)| *s == plan.name && *name == e.plan.name);
                let _told_when_it_was_said = judge.outliers.force(e.id, said.map(|(.., forced)| *forced), now);
            }
            judge.members = members.to_vec();
            judge.publish();
        }
        let tier = forced.tiers.iter().find(|(s, _)| *s == plan.name).map(|(_, tier)| *tier);
        let _told_when_it_was_said = lock(&self.failover).force(tier);
        let mut tiers: Vec<u8> = members.iter().map(|e| e.tier()).collect();
        tiers.sort_unstable();
        tiers.dedup();
        self.tiers.store(u8::try_from(tiers.len()).unwrap_or(u8::MAX), Ordering::Relaxed);
        self.update_tiers(now);
    }

    /// The endpoints that are judged.
    pub(crate) fn members(&self) -> Vec<Arc<EndpointState>> {
        lock(&self.judge).members.clone()
    }

    /// Takes in what happened, publishes what follows from it, and says it in the log.
    fn judged(&self, now: Moment, happened: impl FnOnce(&mut Outliers) -> Vec<Transition>) {
        let transitions = {
            let mut judge = lock(&self.judge);
            let transitions = happened(&mut judge.outliers);
            judge.publish();
            let of = |t: &Transition| judge.members.iter().find(|m| m.id == t.id).cloned();
            transitions.into_iter().filter_map(|t| Some((of(&t)?, t))).collect::<Vec<_>>()
        };
        if transitions.is_empty() {
            return;
        }
        for (endpoint, Transition { from, to, reason, .. }) in transitions {
            if to == State::Open {
                endpoint.ejected.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(event) = self.event(&endpoint.plan.name, from, to, reason) {
                self.journal.tell(event);
            }
        }
        self.update_tiers(now);
    }

    /// What the journal is told of a change. What an operator did is told by whoever took the order.
    fn event(&self, endpoint: &str, from: State, to: State, reason: String) -> Option<Event> {
        let (service, endpoint) = (self.name.clone(), endpoint.to_owned());
        Some(match (from, to) {
            (_, State::Open) => Event::EndpointEjected { service, endpoint, from: from.name().to_owned(), reason },
            (_, State::Suspect) => Event::EndpointSuspected { service, endpoint, reason },
            (_, State::Probation) => Event::EndpointOnProbation { service, endpoint, reason },
            (State::Suspect, State::Closed) => Event::EndpointCleared { service, endpoint, reason },
            (State::Open | State::Probation, State::Closed) => Event::EndpointReturned { service, endpoint, reason },
            _ => return None,
        })
    }

    /// An attempt failed through the endpoint's fault.
    pub(crate) fn failed(&self, endpoint: &EndpointState, failure: Failure, now: Moment) {
        self.judged(now, |outliers| outliers.failure(endpoint.id, failure, now));
    }

    /// An attempt was answered well: the first byte came `us` microseconds after it was sent. `speaks`: see
    /// `Try::speaks`.
    #[inline]
    pub(crate) fn succeeded(&self, endpoint: &EndpointState, worker: usize, us: u64, speaks: bool, now: Moment) {
        endpoint.count_good(worker, us, now);
        if speaks && endpoint.wants_success() {
            self.judged(now, |outliers| outliers.success(endpoint.id, now));
        }
    }

    /// The endpoint is silent beyond the usual.
    pub(crate) fn silent(&self, endpoint: &EndpointState, now: Moment) {
        self.judged(now, |outliers| outliers.silent(endpoint.id, now));
    }

    /// Something came from an endpoint that was taken for silent.
    pub(crate) fn heard(&self, endpoint: &EndpointState, now: Moment) {
        self.judged(now, |outliers| outliers.heard(endpoint.id, now));
    }

    /// A connection to an endpoint came about that was out because it could not be reached.
    pub(crate) fn connected(&self, endpoint: &EndpointState, now: Moment) {
        self.judged(now, |outliers| outliers.connected(endpoint.id, now));
    }

    /// A result of an active check, and the change of health that it made.
    pub(crate) fn checked(&self, endpoint: &EndpointState, passed: bool, change: Option<health::Change>, now: Moment) {
        self.judged(now, |outliers| {
            let mut all = Vec::new();
            if let Some(change) = change {
                all.extend(outliers.checked(endpoint.id, change, now));
            }
            if passed {
                all.extend(outliers.check_passed(endpoint.id, now));
            }
            all
        });
    }

    /// An operator's word.
    pub(crate) fn force(&self, endpoint: &EndpointState, forced: Option<Forced>, now: Moment) {
        self.judged(now, |outliers| outliers.force(endpoint.id, forced, now));
    }

    /// Looks at what the workers counted.
    pub(crate) fn tick(&self, now: Moment) {
        let members = self.members();
        let totals: Vec<(u32, Totals)> = members.iter().map(|e| (e.id, e.good_totals())).collect();
        self.judged(now, |outliers| {
            let fill = |id: u32, into: &mut Totals| {
                if let Some((_, known)) = totals.iter().find(|(i, _)| *i == id) {
                    into.clone_from(known);
                }
            };
            outliers.tick(fill, now)
        });
        lock(&self.budget).tick(self.requests(), self.gate.waiting() > 0, now);
        self.tell_of_limits(now);
        if self.tiers.load(Ordering::Relaxed) > 1 {
            self.update_tiers(now);
        }
        if self.gate.waiting() > 0 {
            // Who waits may find an endpoint that has come back, or room under another limit.
            let usable = members.iter().filter(|e| e.is_usable());
            self.gate.fill(usable.map(|e| e.in_flight.load(Ordering::SeqCst)), now);
        }
    }

    /// Tells where the budget stands, if it has moved, and once a second what was refused.
    fn tell_of_limits(&self, now: Moment) {
        let budget = self.budget(now);
        let mut watched = lock(&self.watched);
        let (from, to) = (watched.level.unwrap_or(budget.level), budget.level);
        watched.level = Some(to);
        let mut events = Vec::new();
        let service = || self.name.clone();
        if from != to {
            let percent = (budget.share_in_force * 100.0).round() as u64;
            let (from, to) = (from.label().to_owned(), to.label().to_owned());
            events.push(Event::BudgetMoved { service: service(), from, to, percent });
        }
        if now >= watched.next_look {
            watched.next_look = now + Duration::from_secs(1);
            let refused = self.tries.sum(|t| t.refused[Why::Budget as usize].get());
            let shed = self.tries.sum(|t| t.shed.get());
            let (more_refused, more_shed) = (refused - watched.refused, shed - watched.shed);
            (watched.refused, watched.shed) = (refused, shed);
            if more_refused > 0 {
                events.push(Event::BudgetExhausted { service: service(), refused: more_refused });
            }
            if more_shed > 0 {
                let limit = format!("max_requests of {}", self.name);
                events.push(Event::LimitReached { service: service(), limit, turned_away: more_shed });
            }
        }
        drop(watched);
        events.into_iter().for_each(|event| self.journal.tell(event));
    }

    fn requests(&self) -> u64 {
        self.traffic.sum(|t| t.started.get())
    }

    /// Pays for a second try.
    pub(crate) fn spend(&self, first_failed: bool, now: Moment) -> Spend {
        let requests = self.requests();
        lock(&self.budget).try_spend(requests, first_failed, now)
    }

    /// What a second try that was paid for came to.
    pub(crate) fn settle(&self, succeeded: bool, now: Moment) {
        lock(&self.budget).settle(succeeded, now);
    }

    /// A second try that was paid for reached nobody.
    pub(crate) fn refund(&self, now: Moment) {
        lock(&self.budget).refund(now);
    }

    pub(crate) fn budget(&self, now: Moment) -> policy::budget::BudgetView {
        lock(&self.budget).view(now)
    }

    /// Room to hold an answer of `length` bytes, if there is any left.
    pub(crate) fn hold_bytes(&self, length: u64, rule: &HoldRule) -> Option<HeldBytes> {
        let fits = |held: u64| hold::may_hold(rule, true, Some(length), false, false, held).then_some(held + length);
        self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Some(HeldBytes { total: self.held_bytes.clone(), count: self.held.clone(), bytes: length })
    }

    /// Answers that are being held.
    pub(crate) fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// How it is, for people and programs.
    pub(crate) fn view(&self, endpoints: &[Arc<EndpointState>], now: Moment) -> ServiceView {
        let budget = self.budget(now);
        let second = |i: usize| self.tries.sum(|t| t.by_cause[i].get());
        let refused = |i: usize| self.tries.sum(|t| t.refused[i].get());
        ServiceView {
            traffic: traffic_view(&self.name, &self.traffic),
            endpoints: endpoints.iter().map(|e| e.view(now)).collect(),
            active_tier: self.active_tier(),
            forced_tier: self.forced_tier(),
            budget: BudgetView {
                share: budget.share_in_force,
                spent: budget.spent_in_window,
                allowed: budget.allowed_in_window,
                yield_ratio: budget.yield_ratio,
            },
            second_tries: Cause::SECOND.iter().enumerate().map(|(i, c)| (c.label(), second(i))).collect(),
            second_tries_refused: Why::ALL.iter().enumerate().map(|(i, w)| (w.label(), refused(i))).collect(),
            parked: self.park.waiting(),
            held: self.held(),
            queued: self.gate.waiting(),
            ejections: endpoints.iter().map(|e| e.ejected.load(Ordering::Relaxed)).sum(),
        }
    }

    /// Weighs the tiers anew.
    fn update_tiers(&self, now: Moment) {
        let members = self.members();
        let mut tiers: Vec<TierState> = Vec::new();
        for e in &members {
            let usable = if e.is_usable() { e.weight() } else { 0 };
            // Maintenance moves no requests to another tier, unless nobody is left.
            let total = if e.is_forced() { 0 } else { e.weight() };
            match tiers.iter_mut().find(|t| t.tier == e.tier()) {
                Some(t) => {
                    t.usable_weight += usable;
                    t.total_weight += total;
                }
                None => tiers.push(TierState { tier: e.tier(), usable_weight: usable, total_weight: total }),
            }
        }
        tiers.sort_unstable_by_key(|t| t.tier);
        let (change, shares) = {
            let mut failover = lock(&self.failover);
            (failover.update(&tiers, now), failover.shares())
        };
        self.shares.store(shares.to_bits(), Ordering::Relaxed);
        self.gate.set_tiers(shares);
        // With one tier there is nothing to fail over to; who is usable is said of each endpoint.
        if let Some(change) = change.filter(|_| self.has_tiers()) {
            let (from, to, reason) = (change.from, change.to, change.reason);
            let (from, to, reason) = (from.to_string(), to.to_string(), reason.to_string());
            self.journal.tell(Event::ServiceFailedOver { service: self.name.clone(), from, to, reason });
        }
    }

    /// The tier that a request goes to.
    #[inline]
    pub(crate) fn tier(&self, entropy: &mut kernel::Entropy) -> u8 {
        Shares::from_bits(self.shares.load(Ordering::Relaxed)).pick(entropy)
    }

    /// Whether requests can go to another tier.
    pub(crate) fn has_tiers(&self) -> bool {
        self.tiers.load(Ordering::Relaxed) > 1
    }

    /// An operator pins the service to a tier, or lets it go.
    pub(crate) fn force_tier(&self, tier: Option<u8>, now: Moment) {
        let _said_by_the_operator = lock(&self.failover).force(tier);
        self.update_tiers(now);
    }

    pub(crate) fn forced_tier(&self) -> Option<u8> {
        lock(&self.failover).forced()
    }

    pub(crate) fn active_tier(&self) -> u8 {
        Shares::from_bits(self.shares.load(Ordering::Relaxed)).first()
    }
}

impl Judge {
    /// Tells the endpoints what they are held for.
    fn publish(&self) {
        for member in &self.members {
            if let Some(verdict) = self.outliers.verdict(member.id) {
                member.take_verdict(verdict);
            }
        }
    }
}
