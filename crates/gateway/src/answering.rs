//! How a request is answered: with what its service sent, passed on as it comes; with a tunnel; or with an error or an
//! empty answer that the gateway makes.

use std::time::Duration;

use kernel::{ErrorCode, Moment};
use policy::keepalive;
use policy::outlier::Failure as Blame;

use crate::buf::Buf;
use crate::conn::Next;
use crate::forward::{self, Answer};
use crate::h1::Framing;
use crate::pool::{AcquireError, UpConn};
use crate::problem::{self, Frame};
use crate::relay::{Relay, RelayParts, Relayed};
use crate::request::{End, Failure, Serving};
use crate::sending::Course;
use crate::state::{EndpointState, NO_ANSWER, class_of};
use crate::tries::{Fault, Over};
use crate::tunnel;
use crate::upload::UploadFault;

/// What is known of the attempt whose answer is passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) sent_at: Moment,
    /// It was the one trial of an endpoint in doubt.
    pub(crate) trial: bool,
}

impl Told {
    /// Whether a break says something of the endpoint as it is now: in probation only a trial does.
    fn speaks(self, endpoint: &EndpointState) -> bool {
        if endpoint.is_in_probation() { self.trial && self.sent_at >= endpoint.since() } else { true }
    }
}

impl<'a> Serving<'a> {
    /// Sends the answer whose head has been parsed.
    pub(crate) async fn answer(
        &mut self,
        course: &mut Course<'a>,
        endpoint: &EndpointState,
        mut conn: UpConn,
        told: Told,
        now: Moment,
    ) -> End {
        let (service, upload) = (course.service, &mut course.upload);
        let Some(mut upstream) = conn.buf.take() else {
            return End { status: 0, code: Some(ErrorCode::Internal), next: Next::Close, whole: false, at: None };
        };
        let head = self.scratch.response.head();
        let (status, framing) = (head.status, head.framing);
        if conn.reused && !conn.waited && self.attempts == 1 && self.facts.framing == Framing::None {
            endpoint.saw_first_byte(now.since(told.sent_at).as_micros() as u64);
        }
        if let Some(value) = head.keep_alive_value {
            conn.announced = keepalive::parse_keep_alive(value.of(upstream.filled()));
        }
        let keep_upstream = head.keep_alive && status != 101;
        let chunked = forward::is_chunked_for(framing, self.facts.http11);
        let delimited =
            chunked || matches!(framing, crate::h1::AnswerFraming::None | crate::h1::AnswerFraming::Length(_));
        let keep = self.keeps() && upload.is_done() && delimited;
        let edits = self.route.map(|r| &self.held.snapshot.plan.routes[r].response_headers);
        Answer {
            buf: upstream.filled(),
            head,
            request_id: self.facts.request_id(&self.scratch.id),
            chunked,
            close: !keep,
            http10: !self.facts.http11,
            edits: edits.unwrap_or(&crate::plan::HeaderEdits::default()),
            extra: &self.extra,
        }
        .write(&mut self.scratch.answer);
        upstream.consume(head.length);
        if status == 101 {
            return self.tunnel(endpoint, conn, upstream, told).await;
        }
        let mut relay = Relay::new(RelayParts {
            core: self.core,
            client: &mut *self.client,
            request: &mut *self.buf,
            edge: &self.held.snapshot.plan.edge,
            service,
            upload: &mut *upload,
            conn,
            buf: upstream,
            answer: &mut self.scratch.answer,
            framing,
            chunked,
            keep: keep_upstream,
            now,
        });
        if relay.is_broken() {
            self.core.buffers.give(relay.buf);
            self.end_attempt(endpoint, NO_ANSWER, told.sent_at);
            if told.speaks(endpoint) {
                course.state.failed(endpoint, Blame::Broken, now);
            }
            let next = if upload.is_done() { Next::Keep } else { Next::Linger };
            let detail = "the chunked coding of its body is broken".to_owned();
            return self.fail(Failure { code: ErrorCode::UpstreamMalformed, detail, next }).await;
        }
        let relayed = relay.run().await;
        self.bytes_out = relay.sent;
        self.core.buffers.give(relay.buf);
        self.bytes_in = self.bytes_in.max(upload.total());
        let code = match relayed {
            Relayed::Complete => None,
            Relayed::ClientGone => Some(ErrorCode::ClientGone),
            Relayed::ClientSlow => Some(ErrorCode::RequestTimeout),
            Relayed::Truncated => Some(ErrorCode::UpstreamTruncated),
            Relayed::Stalled => Some(ErrorCode::UpstreamTimeout),
        };
        if code.is_some() && !delimited {
            // The client would take a plain close for the end of the body.
            let _reset = socket2::SockRef::from(&self.client.io).set_linger(Some(Duration::ZERO));
        }
        let class = if relayed == Relayed::Truncated { NO_ANSWER } else { class_of(status) };
        self.end_attempt(endpoint, class, told.sent_at);
        // A silence within a body may be an event stream's, or the client's fault.
        if relayed == Relayed::Truncated && told.speaks(endpoint) {
            course.state.failed(endpoint, Blame::Broken, self.core.clock().now());
        }
        let next = match relayed {
            Relayed::Complete if keep => Next::Keep,
            Relayed::Complete if !upload.is_done() => Next::Linger,
            _ => Next::Close,
        };
        End { status, code, next, whole: relayed == Relayed::Complete, at: None }
    }

    /// Answers 101 and passes bytes both ways until the tunnel ends.
    async fn tunnel(&mut self, endpoint: &EndpointState, mut conn: UpConn, down: Buf, told: Told) -> End {
        let edge = &self.held.snapshot.plan.edge;
        let until = self.core.clock().now() + edge.body_idle_timeout;
        let sent = self.client.send(&self.scratch.answer, until).await;
        self.core.edge().tunnels.inc();
        self.end_attempt(endpoint, class_of(101), told.sent_at);
        if !sent {
            return End { status: 101, code: Some(ErrorCode::ClientGone), next: Next::Close, whole: false, at: None };
        }
        let up = std::mem::replace(self.buf, self.core.buffers.take());
        let idle = edge.tunnel_idle_timeout;
        let at = self.core.clock().now();
        let bytes = tunnel::run(self.core, self.client, &mut conn.io, up, down, idle).await;
        (self.bytes_in, self.bytes_out) = bytes;
        End { status: 101, code: None, next: Next::Close, whole: true, at: Some(at) }
    }

    /// Counts the end of an attempt that was sent then.
    pub(crate) fn end_attempt(&self, endpoint: &EndpointState, class: usize, sent_at: Moment) {
        let us = self.core.clock().now().since(sent_at).as_micros() as u64;
        endpoint.traffic.shard(self.core.index).ended(class, us);
    }

    /// Nothing is sent, or nothing more: what comes next on the client's connection hangs on whether all of the request
    /// is off it, or still there to be dropped.
    pub(crate) fn not_sent(&self, course: &Course<'a>, code: ErrorCode, why: &str) -> Failure {
        let whole = self.unread > 0 || course.upload.is_done();
        Failure { code, detail: why.to_owned(), next: if whole { Next::Keep } else { Next::Linger } }
    }

    /// What a try's fault means for the client.
    pub(crate) fn fault(&self, fault: Fault, read_whole: bool) -> Failure {
        let next = if read_whole { Next::Keep } else { Next::Linger };
        let (code, detail) = match fault {
            Fault::NoConnection(error @ AcquireError::Saturated) => (ErrorCode::UpstreamSaturated, error.to_string()),
            Fault::NoConnection(error) => (ErrorCode::UpstreamUnreachable, error.to_string()),
            Fault::Closed { silent: true } => (ErrorCode::UpstreamClosed, "before the first byte".to_owned()),
            Fault::Closed { silent: false } => (ErrorCode::UpstreamClosed, "within the head".to_owned()),
            Fault::Truncated => (ErrorCode::UpstreamTruncated, "within a small body".to_owned()),
            Fault::Malformed(error) => (ErrorCode::UpstreamMalformed, error.to_string()),
            Fault::TryTimeout => (ErrorCode::UpstreamTimeout, "an attempt's time is up".to_owned()),
        };
        Failure { code, detail, next }
    }

    /// What the end of a request means for its client.
    pub(crate) fn fault_over(&self, over: Over, read_whole: bool) -> Failure {
        let next = if read_whole { Next::Keep } else { Next::Linger };
        let (code, detail, next) = match over {
            Over::Timeout => (ErrorCode::UpstreamTimeout, "the request's time is up".to_owned(), next),
            Over::ClientGone => (ErrorCode::ClientGone, String::new(), Next::Close),
            Over::ClientSlow => (ErrorCode::RequestTimeout, "the body of the request".to_owned(), Next::Linger),
            Over::Body(UploadFault::TooLarge) => {
                (ErrorCode::BodyTooLarge, "the body grew beyond the limit".to_owned(), Next::Linger)
            }
            Over::Body(UploadFault::Malformed(e)) => (ErrorCode::MalformedRequest, e.to_string(), Next::Linger),
            Over::Body(UploadFault::ClientGone) => (ErrorCode::ClientGone, String::new(), Next::Close),
            Over::Body(UploadFault::Upstream(e)) => (ErrorCode::UpstreamClosed, e.to_string(), next),
        };
        Failure { code, detail, next }
    }

    /// Answers with an error that the gateway makes.
    pub(crate) async fn fail(&mut self, failure: Failure) -> End {
        let Failure { code, detail, mut next } = failure;
        if self.unread > 0 && next == Next::Keep {
            next = self.discard();
        }
        if next == Next::Keep && !self.keeps() {
            next = Next::Close;
        }
        if code == ErrorCode::ClientGone {
            self.scratch.story.explain("the client went away".to_owned());
            return End { status: code.status(), code: Some(code), next: Next::Close, whole: false, at: None };
        }
        let frame = Frame {
            request_id: self.facts.request_id(&self.scratch.id),
            close: next != Next::Keep,
            to_head: self.facts.to_head,
            http10: !self.facts.http11,
        };
        let answer = &mut self.scratch.answer;
        answer.clear();
        let route = self.route.map(|r| &self.held.snapshot.plan.routes[r]);
        let paged = self.facts.wants_html && route.is_some_and(|r| problem::write_page(answer, frame, code, r));
        if !paged {
            problem::write(answer, frame, code, &detail);
        }
        self.scratch.story.explain(detail);
        // As with answers that are passed on, the body counts.
        let head = memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        self.bytes_out = (answer.len() - head) as u64;
        let until = self.core.clock().now() + self.held.snapshot.plan.edge.body_idle_timeout;
        let sent = self.client.send(&self.scratch.answer, until).await;
        if !sent {
            next = Next::Close;
        }
        End { status: code.status(), code: Some(code), next, whole: sent, at: None }
    }

    /// Answers without a body: a redirect or a preflight answer.
    pub(crate) async fn answer_empty(&mut self, status: u16, fields: &[(&'static str, String)]) -> End {
        let mut next = self.discard();
        let frame = Frame {
            request_id: self.facts.request_id(&self.scratch.id),
            close: next != Next::Keep,
            to_head: self.facts.to_head,
            http10: !self.facts.http11,
        };
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        problem::write_empty(&mut self.scratch.answer, frame, status, &fields);
        let until = self.core.clock().now() + self.held.snapshot.plan.edge.body_idle_timeout;
        let sent = self.client.send(&self.scratch.answer, until).await;
        if !sent {
            next = Next::Close;
        }
        End { status, code: None, next, whole: sent, at: None }
    }
}
