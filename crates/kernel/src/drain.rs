//! The one signal that ends a process in order: running => announced (readiness fails, listeners stay open) =>
//! draining (listeners closed, connections told to close) => closed (the deadline has passed; what is left is cut).
//! It only moves forward. Every long-lived task holds a [`Drain`] and ends when it says so.
//!
//! A process that has handed its listening sockets over to another goes to draining at once and is patient: the other
//! one serves already, so nothing has to be announced and nobody has to be hurried. A stop that is asked for meanwhile
//! ends the patience.

use tokio::sync::watch;

/// How far the stop has come. The order of the variants is the order in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// Normal work.
    Running,
    /// `/readyz` fails so that balancers look elsewhere; new connections are still served.
    Announced,
    /// Listeners are closed; each connection ends after the request it is serving.
    Draining,
    /// The deadline has passed: whatever is still open is cut.
    Closed,
}

/// A view of the stop's progress; cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Progress>);

/// The side that moves the stop forward.
#[derive(Clone, Debug)]
pub struct DrainTrigger(watch::Sender<Progress>);

#[derive(Clone, Copy, Debug)]
struct Progress {
    phase: DrainPhase,
    /// Another process serves on the sockets.
    handed_over: bool,
    /// A stop was asked for as well.
    hurried: bool,
}

impl DrainTrigger {
    /// A trigger at [`DrainPhase::Running`] and its first view.
    pub fn new() -> (DrainTrigger, Drain) {
        let (tx, rx) = watch::channel(Progress { phase: DrainPhase::Running, handed_over: false, hurried: false });
        (DrainTrigger(tx), Drain(rx))
    }

    /// Goes to [`DrainPhase::Draining`] because another process serves on the same sockets: patiently, or, if a stop was
    /// announced already, without the rest of its delay. False, and nothing happens, if that is past.
    pub fn hand_over(&self) -> bool {
        self.0.send_if_modified(|p| {
            let moves = p.phase < DrainPhase::Draining;
            if moves {
                p.hurried |= p.phase == DrainPhase::Announced;
                (p.phase, p.handed_over) = (DrainPhase::Draining, true);
            }
            moves
        })
    }

    /// Ends the patience of a hand-over.
    pub fn hurry(&self) {
        self.0.send_if_modified(|p| !std::mem::replace(&mut p.hurried, true));
    }

    /// Moves to `phase`; going back is ignored.
    pub fn advance(&self, phase: DrainPhase) {
        self.0.send_if_modified(|p| {
            let moves = phase > p.phase;
            if moves {
                p.phase = phase;
            }
            moves
        });
    }

    /// Another view.
    pub fn subscribe(&self) -> Drain {
        Drain(self.0.subscribe())
    }
}

impl Drain {
    /// The present phase.
    pub fn phase(&self) -> DrainPhase {
        self.0.borrow().phase
    }

    /// Whether another process serves on the sockets.
    pub fn is_handed_over(&self) -> bool {
        self.0.borrow().handed_over
    }

    /// Whether whoever is idle may stay, because another process serves on the sockets and nobody asked for a stop.
    pub fn is_patient(&self) -> bool {
        let progress = *self.0.borrow();
        progress.handed_over && !progress.hurried
    }

    /// Waits until another process serves on the sockets; also returns when the trigger is gone. Cancel safe.
    pub async fn handed_over(&mut self) {
        let _ended = self.0.wait_for(|p| p.handed_over).await.is_err();
    }

    /// Waits until the patience has ended; also returns when the trigger is gone. Cancel safe.
    pub async fn hurried(&mut self) {
        let _ended = self.0.wait_for(|p| p.hurried).await.is_err();
    }

    /// Waits until `phase` or a later one is reached; also returns when the trigger is gone. Cancel safe.
    pub async fn reached(&mut self, phase: DrainPhase) {
        // An error means that the trigger was dropped: the process is ending, which counts as reached.
        let _ended = self.0.wait_for(|p| p.phase >= phase).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward() {
        let (trigger, mut drain) = DrainTrigger::new();
        trigger.advance(DrainPhase::Draining);
        trigger.advance(DrainPhase::Announced);
        assert_eq!(drain.phase(), DrainPhase::Draining);
        drain.reached(DrainPhase::Announced).await;
        drop(trigger);
        drain.reached(DrainPhase::Closed).await;
    }

    #[tokio::test]
    async fn a_hand_over_drains_patiently_until_a_stop_is_asked_for() {
        let (trigger, mut drain) = DrainTrigger::new();
        assert!(trigger.hand_over());
        assert_eq!(drain.phase(), DrainPhase::Draining);
        assert!(drain.is_handed_over() && drain.is_patient());
        assert!(!trigger.hand_over(), "there is nothing left to hand over");
        drain.handed_over().await;
        trigger.hurry();
        drain.hurried().await;
        assert!(drain.is_handed_over() && !drain.is_patient());
        assert_eq!(drain.phase(), DrainPhase::Draining);
    }

    #[test]
    fn who_stops_hands_over_without_patience_and_who_drains_does_not() {
        let (trigger, drain) = DrainTrigger::new();
        trigger.advance(DrainPhase::Announced);
        assert!(trigger.hand_over());
        assert!(drain.is_handed_over() && !drain.is_patient());
        assert_eq!(drain.phase(), DrainPhase::Draining);

        let (trigger, drain) = DrainTrigger::new();
        trigger.advance(DrainPhase::Draining);
        assert!(!trigger.hand_over());
        assert!(!drain.is_handed_over());
    }
}
