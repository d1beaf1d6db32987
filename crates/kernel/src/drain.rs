//! The one signal that ends a process in order: running => announced (readiness fails, listeners stay open) =>
//! draining (listeners closed, connections told to close) => closed (the deadline has passed; what is left is cut).
//! It only moves forward. Every long-lived task holds a [`Drain`] and ends when it says so.

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
pub struct Drain(watch::Receiver<DrainPhase>);

/// The side that moves the stop forward.
#[derive(Clone, Debug)]
pub struct DrainTrigger(watch::Sender<DrainPhase>);

impl DrainTrigger {
    /// A trigger at [`DrainPhase::Running`] and its first view.
    pub fn new() -> (DrainTrigger, Drain) {
        let (tx, rx) = watch::channel(DrainPhase::Running);
        (DrainTrigger(tx), Drain(rx))
    }

    /// Moves to `phase`; going back is ignored.
    pub fn advance(&self, phase: DrainPhase) {
        self.0.send_if_modified(|p| {
            let moves = phase > *p;
            if moves {
                *p = phase;
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
        *self.0.borrow()
    }

    /// Waits until `phase` or a later one is reached; also returns when the trigger is gone. Cancel safe.
    pub async fn reached(&mut self, phase: DrainPhase) {
        // An error means that the trigger was dropped: the process is ending, which counts as reached.
        let _ended = self.0.wait_for(|p| *p >= phase).await.is_err();
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
}
