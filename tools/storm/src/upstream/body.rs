//! Bodies that come by a script: pieces, pauses, and a reset in the middle. A body also keeps its connection marked as
//! busy until it has been sent or dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::anyhow;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::connection::Busy;

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Pause(Duration),
    /// The connection is reset.
    Reset,
}

/// A body that does its steps.
#[derive(Debug)]
pub(crate) struct ScriptBody {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Known beforehand, or chunked.
    length: Option<u64>,
    busy: Option<Busy>,
}

impl ScriptBody {
    pub(crate) fn new(steps: VecDeque<Step>, length: Option<u64>, busy: Busy) -> ScriptBody {
        ScriptBody { steps, pause: None, length, busy: Some(busy) }
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        loop {
            if let Some(pause) = self.pause.as_mut() {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => {
                    self.busy = None;
                    return Poll::Ready(None);
                }
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Pause(time)) => self.pause = Some(Box::pin(sleep(time))),
                Some(Step::Reset) => {
                    if let Some(busy) = &self.busy {
                        busy.reset_on_close();
                    }
                    return Poll::Ready(Some(Err(anyhow!("fault: reset in the middle of the body"))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
