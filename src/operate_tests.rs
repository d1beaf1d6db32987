//! Tests of what may be done, what is kept and what is said, over a data plane that only remembers.

use std::io;

use gateway::inspect::{EndpointView, TrafficView};
use kernel::overrides::Loaded;

use super::*;
use crate::overrides::MemoryStore;

/// Two tiers: a:1 and b:1 in the first, c:1 in the second.
#[derive(Debug)]
struct Fleet(Mutex<Vec<ServiceView>>);

impl Fleet {
    fn new() -> Fleet {
        let traffic = |name: &str| TrafficView { name: name.into(), ..TrafficView::default() };
        let endpoint =
            |name: &str, tier| EndpointView { traffic: traffic(name), healthy: true, tier, ..EndpointView::default() };
        let endpoints = vec![endpoint("a:1", 0), endpoint("b:1", 0), endpoint("c:1", 1)];
        Fleet(Mutex::new(vec![ServiceView { traffic: traffic("shop"), endpoints, ..ServiceView::default() }]))
    }

    fn with(change: impl FnOnce(&mut ServiceView)) -> Fleet {
        let fleet = Fleet::new();
        change(&mut fleet.0.lock().unwrap()[0]);
        fleet
    }

    /// What is forced: of each endpoint, then the tier.
    fn forced(&self) -> (Vec<Option<Forced>>, Option<u8>) {
        let services = self.0.lock().unwrap();
        (services[0].endpoints.iter().map(|e| e.forced).collect(), services[0].forced_tier)
    }
}

impl Plane for Fleet {
    fn services(&self) -> Vec<ServiceView> {
        self.0.lock().unwrap().clone()
    }
    fn force_endpoint(&self, service: &str, endpoint: &str, forced: Option<Forced>) -> Result<(), UnknownName> {
        let mut services = self.0.lock().unwrap();
        let unknown = UnknownName::Service { service: service.to_owned() };
        let service = services.iter_mut().find(|s| s.traffic.name == service).ok_or(unknown.clone())?;
        service.endpoints.iter_mut().find(|e| e.traffic.name == endpoint).ok_or(unknown)?.forced = forced;
        Ok(())
    }
    fn force_tier(&self, service: &str, tier: Option<u8>) -> Result<(), UnknownName> {
        let mut services = self.0.lock().unwrap();
        let unknown = UnknownName::Service { service: service.to_owned() };
        let service = services.iter_mut().find(|s| s.traffic.name == service).ok_or(unknown)?;
        service.forced_tier = tier;
        service.active_tier = tier.unwrap_or(0);
        Ok(())
    }
}

/// A store that fails when it is told to.
#[derive(Debug, Default)]
struct Failing;

impl OverrideStore for Failing {
    fn place(&self) -> String {
        "the disk".into()
    }
    fn load(&self) -> io::Result<Loaded> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn save(&self, _set: &OverrideSet) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

fn order(reason: &str) -> Order {
    Order { actor: "ops".into(), reason: reason.into(), force: false }
}

fn by_force() -> Order {
    Order { force: true, ..order("meant so") }
}

fn journal() -> Journal {
    Journal::unkept(clock(), kernel::journal::Boot::from_text("test"))
}

fn clock() -> Clock {
    Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000))
}

/// What a process keeps there. The store goes with it.
struct Kept {
    operations: Operations,
    _store: Arc<store::Store>,
}

impl std::ops::Deref for Kept {
    type Target = Operations;
    fn deref(&self) -> &Operations {
        &self.operations
    }
}

fn kept(directory: &std::path::Path, clock: Clock) -> Kept {
    let config = store::StoreConfig::new(directory.to_owned());
    let store = store::Store::open(config, Clock::real(), journal());
    Kept { operations: Operations::open(store.ledger(), clock, journal()), _store: store }
}

fn in_memory() -> Operations {
    Operations::open(Arc::new(MemoryStore), clock(), journal())
}

use EndpointAction::{Down, Drain, Resume};

#[test]
fn an_endpoint_is_drained_taken_down_and_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let open = |clock| kept(&directory.path().join("data"), clock);
    let (fleet, time) = (Fleet::with(|shop| shop.endpoints[0].traffic.in_flight = 2), clock());
    let operations = open(time.clone());
    let done = operations.endpoint_action(&fleet, ("shop", "a:1"), Drain, &order("a new disk")).unwrap();
    let expected = "a:1 of shop is drained: it gets no new requests; 2 in flight there are finished. This holds after a restart too.";
    assert_eq!((done.message.as_str(), done.kept), (expected, true));
    assert_eq!(fleet.forced().0, [Some(Forced::Drained), None, None]);
    time.advance(Duration::from_secs(90));
    let told = operations.about_endpoint("shop", "a:1").unwrap();
    assert_eq!(told, ("drained by ops: a new disk".to_owned(), Duration::from_secs(90)));

    // Another process goes on with it.
    let later = open(clock());
    assert_eq!(later.about_endpoint("shop", "a:1").unwrap().0, "drained by ops: a new disk");
    let done = later.endpoint_action(&fleet, ("shop", "a:1"), Down, &order("worse than that")).unwrap();
    assert!(done.kept && fleet.forced().0[0] == Some(Forced::Down), "{done:?}");
    let done = later.endpoint_action(&fleet, ("shop", "a:1"), Resume, &order("")).unwrap();
    assert!(done.message.starts_with("a:1 of shop was down and is judged by checks and requests again."), "{done:?}");
    assert_eq!(fleet.forced().0, [None; 3]);
    assert_eq!(open(clock()).about_endpoint("shop", "a:1"), None);
    let done = later.endpoint_action(&fleet, ("shop", "a:1"), Resume, &order("")).unwrap();
    assert_eq!(done.message, "a:1 of shop was not taken out; nothing has changed.");
}

#[test]
fn names_and_reasons_are_checked_before_anything_changes() {
    let (fleet, operations) = (Fleet::new(), in_memory());
    let act = |names, action, reason: &str| operations.endpoint_action(&fleet, names, action, &order(reason));
    let unknown = act(("shpo", "a:1"), Drain, "x").unwrap_err();
    assert_eq!(unknown.to_string(), "there is no service \"shpo\"; there is shop");
    for action in [Drain, Down, Resume] {
        let unknown = act(("shop", "z:1"), action, "x").unwrap_err();
        assert_eq!(unknown.to_string(), "shop has no endpoint \"z:1\"; it has a:1, b:1, c:1");
    }
    let longest = "ü".repeat(MAX_REASON_CHARS);
    for reason in ["", "  ", "two\nlines", "bell\u{7}", &format!("{longest}x")] {
        assert!(matches!(act(("shop", "a:1"), Drain, reason), Err(ActionError::BadReason(_))), "{reason:?}");
        let failover = ServiceAction::Failover { tier: None };
        let refused = operations.service_action(&fleet, "shop", failover, &order(reason));
        assert!(matches!(refused, Err(ActionError::BadReason(_))), "{reason:?}");
    }
    assert_eq!(fleet.forced(), (vec![None; 3], None));
    assert!(act(("shop", "a:1"), Drain, &longest).is_ok());
}

#[test]
fn the_last_endpoint_is_taken_out_by_force_only() {
    let (fleet, operations) = (Fleet::with(|shop| shop.endpoints[2].healthy = false), in_memory());
    let act = |endpoint, order: &Order| operations.endpoint_action(&fleet, ("shop", endpoint), Drain, order);
    act("a:1", &order("x")).unwrap();
    let last = act("b:1", &order("x")).unwrap_err();
    assert!(last.to_string().starts_with("b:1 is the last endpoint of shop that can take requests"), "{last}");
    // One that takes no requests anyway may go, as long as something is left to try.
    act("c:1", &order("x")).unwrap();
    assert!(matches!(act("b:1", &order("x")), Err(ActionError::LastEndpoint(_))));
    act("b:1", &by_force()).unwrap();
    assert!(fleet.forced().0.iter().all(Option::is_some));
    // What is out already may be said again, for another reason.
    act("b:1", &order("another reason")).unwrap();

    // Endpoints outside the chosen tier are none that could step in.
    let (fleet, operations) = (Fleet::new(), in_memory());
    operations.service_action(&fleet, "shop", ServiceAction::Failover { tier: Some(1) }, &order("x")).unwrap();
    let last = operations.endpoint_action(&fleet, ("shop", "c:1"), Down, &order("x"));
    assert!(matches!(last, Err(ActionError::LastEndpoint(_))), "{last:?}");
    operations.endpoint_action(&fleet, ("shop", "a:1"), Down, &order("x")).unwrap();
}

#[test]
fn a_service_fails_over_and_back() {
    let (fleet, operations) = (Fleet::new(), in_memory());
    let over = |tier, order: &Order| operations.service_action(&fleet, "shop", ServiceAction::Failover { tier }, order);
    let done = over(None, &order("a new rack")).unwrap();
    assert!(done.message.starts_with("shop uses tier 1 alone, which has 1 healthy endpoint."), "{done:?}");
    assert_eq!(
        (fleet.forced().1, operations.about_tier("shop").unwrap()),
        (Some(1), "chosen by ops: a new rack".into())
    );
    let last = over(None, &order("x")).unwrap_err().to_string();
    assert_eq!(last, "shop uses its last tier, 1; name one (`tier`, `--tier`) of 0, 1");
    assert_eq!(over(Some(7), &order("x")).unwrap_err().to_string(), "shop has no tier 7; it has 0, 1");
    over(Some(0), &order("x")).unwrap();
    fleet.0.lock().unwrap()[0].endpoints[2].healthy = false;
    assert!(matches!(over(Some(1), &order("x")), Err(ActionError::LastEndpoint(_))));
    over(Some(1), &by_force()).unwrap();
    let back = || operations.service_action(&fleet, "shop", ServiceAction::Failback, &order(""));
    assert!(back().unwrap().message.starts_with("shop is no longer held at tier 1"));
    assert_eq!((fleet.forced().1, operations.about_tier("shop")), (None, None));
    assert_eq!(back().unwrap().message, "no tier of shop was chosen by an operator; nothing has changed.");
    let single = Fleet::with(|shop| shop.endpoints.truncate(2));
    let none = operations.service_action(&single, "shop", ServiceAction::Failover { tier: None }, &order("x"));
    assert_eq!(none.unwrap_err().to_string(), "shop has one tier, so there is none to switch to");
}

#[test]
fn a_decision_waits_for_a_name_that_is_gone_and_goes_when_it_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let open = || kept(directory.path(), clock());
    let fleet = Fleet::new();
    let operations = open();
    operations.endpoint_action(&fleet, ("shop", "a:1"), Drain, &order("x")).unwrap();
    operations.service_action(&fleet, "shop", ServiceAction::Failover { tier: None }, &order("x")).unwrap();
    let gone = Fleet(Mutex::default());
    let operations = open();
    assert!(operations.about_endpoint("shop", "a:1").is_some());
    // What is gone can be taken back, and not be taken out anew.
    assert!(operations.endpoint_action(&gone, ("shop", "a:1"), Drain, &order("x")).is_err());
    let done = operations.endpoint_action(&gone, ("shop", "a:1"), Resume, &order("")).unwrap();
    assert!(done.message.starts_with("a:1 of shop was drained and is not in the configuration."), "{done:?}");
    operations.service_action(&gone, "shop", ServiceAction::Failback, &order("")).unwrap();
    assert!(open().state().set.is_empty());
}

#[test]
fn what_cannot_be_kept_is_in_force_and_said_everywhere() {
    let (fleet, operations) = (Fleet::new(), Operations::open(Arc::new(Failing), clock(), journal()));
    assert_eq!(operations.notices(), [""; 0], "nothing is lost yet");
    let done = operations.endpoint_action(&fleet, ("shop", "a:1"), Drain, &order("x")).unwrap();
    assert!(!done.kept && done.message.contains("A restart will forget this: cannot keep it in the disk"), "{done:?}");
    assert_eq!(fleet.forced().0[0], Some(Forced::Drained));
    let notices = operations.notices();
    assert!(notices[0].starts_with("What operators decided will not survive a restart: "), "{notices:?}");
}

#[test]
fn decisions_are_bounded() {
    let (fleet, operations) = (Fleet::new(), in_memory());
    let decided = EndpointOverride { state: TakenOut::Down, by: Decision::default() };
    for n in 0..MAX_OVERRIDES {
        operations.state().set.set_endpoint("shop", &format!("gone:{n}"), Some(decided.clone()));
    }
    let drain = || operations.endpoint_action(&fleet, ("shop", "a:1"), Drain, &order("x"));
    assert!(matches!(drain(), Err(ActionError::TooMany(_))));
    assert_eq!(fleet.forced().0[0], None);
    operations.endpoint_action(&fleet, ("shop", "gone:0"), Resume, &order("")).unwrap();
    drain().unwrap();
}

/// A store that another process has open as well.
#[derive(Debug, Default)]
struct Common {
    kept: Mutex<OverrideSet>,
    news: Mutex<Option<OverrideSet>>,
    is_full: std::sync::atomic::AtomicBool,
}

impl OverrideStore for Common {
    fn place(&self) -> String {
        "the disk".into()
    }
    fn load(&self) -> io::Result<Loaded> {
        Ok(Loaded { set: self.kept.lock().unwrap().clone(), damage: None })
    }
    fn save(&self, set: &OverrideSet) -> io::Result<()> {
        if self.is_full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *self.kept.lock().unwrap() = set.clone();
        Ok(())
    }
    fn news(&self) -> io::Result<Option<OverrideSet>> {
        Ok(self.news.lock().unwrap().take())
    }
}

fn common(common: &Arc<Common>) -> Operations {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let journal = Journal::unkept(clock.clone(), kernel::journal::Boot::from_text("a"));
    Operations::open(common.clone(), clock, journal)
}

#[test]
fn what_another_process_decides_is_in_force_after_a_look() {
    let (disk, fleet) = (Arc::<Common>::default(), Fleet::new());
    let operations = common(&disk);
    operations.endpoint_action(&fleet, ("shop", "a:1"), EndpointAction::Drain, &order("x")).unwrap();
    assert!(!operations.look(&fleet));
    let decided = |state| Some(EndpointOverride { state, by: Decision::default() });
    let mut set = OverrideSet::default();
    set.set_endpoint("shop", "b:1", decided(TakenOut::Down));
    set.set_endpoint("gone", "c:1", decided(TakenOut::Down));
    set.services.insert("shop".to_owned(), TierOverride { tier: 1, by: Decision::default() });
    *disk.news.lock().unwrap() = Some(set);
    assert!(operations.look(&fleet));
    assert_eq!(fleet.forced(), (vec![None, Some(Forced::Down), None], Some(1)));
    // From here on it is what is known.
    assert!(operations.about_endpoint("shop", "a:1").is_none() && operations.about_tier("shop").is_some());
    *disk.news.lock().unwrap() = Some(OverrideSet::default());
    assert!(operations.look(&fleet));
    assert_eq!(fleet.forced(), (vec![None, None, None], None));
}

#[test]
fn what_could_not_be_kept_is_kept_by_a_later_look() {
    let (disk, fleet) = (Arc::<Common>::default(), Fleet::new());
    let operations = common(&disk);
    disk.is_full.store(true, std::sync::atomic::Ordering::Relaxed);
    let acted = operations.endpoint_action(&fleet, ("shop", "a:1"), EndpointAction::Drain, &order("x")).unwrap();
    assert!(!acted.kept);
    operations.look(&fleet);
    assert_eq!((disk.kept.lock().unwrap().len(), operations.notices().len()), (0, 1));
    disk.is_full.store(false, std::sync::atomic::Ordering::Relaxed);
    operations.look(&fleet);
    assert_eq!((disk.kept.lock().unwrap().len(), operations.notices().len()), (1, 0));
}
