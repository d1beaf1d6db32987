//! What follows when a try has failed, has been answered, or is silent: what it says of its endpoint, and whether, where
//! and when the request is sent again. `policy::retry` decides, and the service's budget pays.

use std::time::Duration;

use kernel::trace::{BudgetLeft, Kept};
use kernel::{ErrorCode, Moment};
use policy::balance::{Fleet, Standing};
use policy::budget::Spend;
use policy::outlier::Failure as Blame;
use policy::retry::{self, Again, Asked, Outcome, Why};

use crate::answering::Told;
use crate::h1::{AnswerFraming, Name};
use crate::pool::{AcquireError, Reuse};
use crate::request::{End, Failure, Serving};
use crate::sending::{Begun, Course, Next};
use crate::state::{NO_ANSWER, class_of};
use crate::story::Mark;
use crate::tries::{Cause, Fault, Over, Try};

/// `Retry-After` of an endpoint is heeded up to this long: it may be meant for one client only.
const REST_MAX: Duration = Duration::from_secs(30);

impl<'a> Serving<'a> {
    /// An endpoint is silent: a second try beside the first, where that is allowed.
    pub(crate) fn hedge(&mut self, course: &mut Course<'a>) {
        let rule = &course.service.retry;
        let safe = self.facts.idempotent && course.replayable;
        // With nobody to turn to who is better, the one that has the request is as good as any.
        let now = self.core.clock().now();
        for (_, one) in course.tries.under_way().filter(|(_, one)| one.silent && !one.silence_told) {
            one.silence_told = true;
            self.mark(now, Mark::Silent { number: one.number });
        }
        let fleet = course.candidates(course.state.forced_tier().map(|_| course.tier), now);
        if !(0..fleet.len()).any(|i| !fleet.tried(i) && fleet.standing(i) == Standing::Good) {
            return;
        }
        // One is under way and counts too.
        if !rule.hedge || !safe || course.hedged || course.tries.len() != 1 || course.attempts + 1 >= rule.attempts {
            return;
        }
        if course.state.spend(false, now) != Spend::Granted {
            self.refused(course, Why::Budget, now);
            return;
        }
        let next = Next { cause: Cause::Silence, charged: true, same: false, only: None };
        course.hedged = matches!(self.begin(course, next), Begun::Yes);
        if course.hedged {
            self.keep(Kept::SecondTried);
        } else {
            course.state.refund(now);
        }
    }

    /// Puts down how a try came by its connection, if it did.
    pub(crate) fn tell_of_connection(&mut self, one: &Try<'_>) {
        let Some(at) = one.connected_at else { return };
        let waited = one.conn().is_some_and(|c| c.waited);
        let connection = if waited {
            "waited"
        } else if one.reused {
            "reused"
        } else {
            "new"
        };
        let after_us = u64::try_from(at.since(one.begun_at).as_micros()).unwrap_or(u64::MAX);
        self.mark(at, Mark::Connected { number: one.number, connection, after_us });
    }

    fn refused(&mut self, course: &Course<'_>, why: Why, now: Moment) {
        self.keep(Kept::Refused);
        let reason = why.words();
        // Elsewhere it has no part in the decision, and looking at it costs a lock.
        let budget = (why == Why::Budget).then(|| budget_left(course, now));
        self.mark(now, Mark::NotAgain { reason, budget });
        course.state.tries.shard(self.core.index).refused[why as usize].inc();
    }

    /// A try has failed: what it says of its endpoint, and whether there is another.
    pub(crate) async fn failed(&mut self, course: &mut Course<'a>, i: usize, fault: Fault) -> Result<(), Failure> {
        let core = self.core;
        let now = core.clock().now();
        let one = course.tries.take(i);
        self.tell_of_connection(&one);
        self.mark(now, Mark::Failed { number: one.number, how: fault.words() });
        self.end_attempt(one.endpoint, NO_ANSWER, one.sent_at());
        match (&fault, one.charged) {
            (_, false) => {}
            // It cost nobody anything.
            (Fault::NoConnection(_), true) => course.state.refund(now),
            (_, true) => course.state.settle(false, now),
        }
        if let Fault::NoConnection(error) = &fault {
            match error {
                AcquireError::Connect(_) | AcquireError::ConnectTimeout(_) | AcquireError::Abandoned => {}
                AcquireError::Deadline => return Err(self.over(course, Over::Timeout)),
                AcquireError::Saturated if course.tries.is_empty() => {
                    return Err(self.fault(fault, course.upload.is_done()));
                }
                AcquireError::Saturated => {}
            }
        }
        let unsent = self.is_unsent(course, &one, &fault);
        let race = self.is_stale_race(&one, &fault, now);
        let outcome = self.blame(course, &one, &fault, race, now);
        let (at, method_safe) = (one.at, self.facts.idempotent);
        self.scratch.response = one.into_conn().1;
        if !course.tries.is_empty() {
            return Ok(());
        }
        let asked = Asked {
            outcome,
            idempotent: method_safe,
            replayable: course.replayable || (course.upload.is_intact() && !course.upload.is_over()),
            unsent,
            stale_race: race,
            free_used: course.free_used,
            attempts: course.attempts,
            untried: course.untried(now),
            fleet_in_trouble: course.in_trouble(now),
            left: course.until.since(now),
            retry_after: None,
        };
        if outcome == Outcome::ConnectFailed && asked.untried == 0 {
            let safe = unsent || (asked.idempotent && asked.replayable);
            let may_wait = safe && course.attempts < course.service.retry.attempts;
            return if may_wait {
                self.park(course, fault).await
            } else {
                Err(self.fault(fault, course.upload.is_done()))
            };
        }
        match self.again(course, &asked, at, now).await {
            Ok(Some((Begun::Yes, _))) => Ok(()),
            // It has cost nobody anything yet: it waits like one that has just come.
            Ok(Some((begun @ Begun::Full, next))) if unsent => self.through_the_gate(course, next, begun).await,
            Ok(_) => Err(self.fault(fault, course.upload.is_done())),
            Err(over) => Err(self.over(course, over)),
        }
    }

    /// Whether it is proven that no byte of the request reached an endpoint.
    fn is_unsent(&self, course: &mut Course<'a>, one: &Try<'_>, fault: &Fault) -> bool {
        let none = matches!(fault, Fault::NoConnection(_)) || (one.sent == 0 && course.upload.is_intact());
        if !none {
            course.sent = true;
        }
        none && !course.sent
    }

    /// Whether the endpoint closed the connection for being idle at the very moment when it was used again.
    fn is_stale_race(&self, one: &Try<'_>, fault: &Fault, now: Moment) -> bool {
        if !matches!(fault, Fault::Closed { silent: true }) || !one.reused {
            return false;
        }
        let memory = one.endpoint.idle_memory();
        let idled = one.conn().map_or(Duration::ZERO, |c| c.idled);
        retry::stale_race(true, idled, memory.shortest(), memory.in_mass_close(now))
    }

    /// Tells the judge what the endpoint is to blame for.
    fn blame(&self, course: &mut Course<'a>, one: &Try<'a>, fault: &Fault, race: bool, now: Moment) -> Outcome {
        let (outcome, blame) = match fault {
            Fault::NoConnection(AcquireError::ConnectTimeout(_)) => {
                (Outcome::ConnectFailed, Some(Blame::ConnectTimeout))
            }
            Fault::NoConnection(AcquireError::Connect(_)) => (Outcome::ConnectFailed, Some(Blame::Refused)),
            Fault::NoConnection(_) => (Outcome::ConnectFailed, None),
            Fault::Closed { silent: true } => (Outcome::Closed, (!race).then_some(Blame::Closed)),
            Fault::Closed { silent: false } | Fault::Truncated | Fault::Malformed(_) => {
                (Outcome::Broken, Some(Blame::Broken))
            }
            Fault::TryTimeout => {
                let silent = one.conn().is_some() && one.endpoint.heard_at() <= one.sent_at();
                (Outcome::TimedOut, silent.then_some(Blame::Silent))
            }
        };
        if outcome == Outcome::ConnectFailed {
            course.unreached += 1;
        } else {
            course.attempts += 1;
        }
        if !matches!(fault, Fault::NoConnection(_) | Fault::TryTimeout) {
            one.endpoint.hear(now);
        }
        if let Some(blame) = blame.filter(|_| one.speaks()) {
            course.state.failed(one.endpoint, blame, now);
        }
        outcome
    }

    /// Begins another try if that is allowed and can be paid for. `None`: it is not.
    async fn again(
        &mut self,
        course: &mut Course<'a>,
        asked: &Asked,
        at: usize,
        now: Moment,
    ) -> Result<Option<(Begun, Next)>, Over> {
        let again = retry::again(&course.service.retry, asked, &mut self.core.entropy.borrow_mut());
        let (wait, charged, same) = match again {
            Again::No(why) => {
                self.refused(course, why, now);
                return Ok(None);
            }
            Again::Now { charged, same } => (Duration::ZERO, charged, same),
            Again::After { wait, charged, same } => (wait, charged, same),
        };
        if charged && !self.pay(course, course.attempts == 1, now).await? {
            self.refused(course, Why::Budget, now);
            return Ok(None);
        }
        let pause_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let budget = charged.then(|| budget_left(course, now));
        self.mark(now, Mark::Again { reason: cause_of(asked).words(), pause_ms, budget });
        if !wait.is_zero() {
            self.pause(course.until.min(self.core.clock().now() + wait)).await?;
        }
        let mut next = Next { cause: cause_of(asked), charged, same, only: None };
        if asked.stale_race && !asked.free_used {
            // The same endpoint, on a new connection: it did nothing wrong.
            course.free_used = true;
            course.reuse = Reuse::Never;
            next.only = Some(at);
            self.core.commons_links(&course.endpoints[at]).stale_retries.inc();
        }
        let begun = self.begin(course, next);
        if matches!(begun, Begun::Yes) {
            self.keep(Kept::Retried);
        } else if charged {
            course.state.refund(now);
        }
        next.only = None;
        Ok(Some((begun, next)))
    }

    /// Pays for a second try out of the budget, which may ask for a pause first.
    async fn pay(&mut self, course: &Course<'a>, first_failed: bool, now: Moment) -> Result<bool, Over> {
        let wait = match course.state.spend(first_failed, now) {
            Spend::Granted => return Ok(true),
            Spend::Refused => return Ok(false),
            Spend::After(wait) => wait,
        };
        if now + wait >= course.until {
            return Ok(false);
        }
        self.pause(now + wait).await?;
        Ok(course.state.spend(false, self.core.clock().now()) == Spend::Granted)
    }

    /// A final answer has come. `None`: it is not passed on, another try is under way.
    pub(crate) async fn answered(&mut self, course: &mut Course<'a>, i: usize) -> Result<Option<End>, Failure> {
        let core = self.core;
        let mut one = course.tries.take(i);
        // What has come just now was noticed just now; a held answer may have waited for its time.
        let now = if one.is_held() { core.clock().now() } else { one.heard_at };
        let status = one.parser.head().status;
        self.tell_of_connection(&one);
        let after_us = one.first_at.unwrap_or(now).since(one.sent_at()).as_micros();
        let (number, after_us) = (one.number, u64::try_from(after_us).unwrap_or(u64::MAX));
        self.mark(one.first_at.unwrap_or(now), Mark::Answered { number, status, after_us });
        if one.is_held() {
            self.keep(Kept::Held);
            self.mark(now, Mark::Held { number });
        }
        (course.sent, course.attempts) = (true, course.attempts + 1);
        self.reused = one.reused;
        if one.refused || one.sent < self.scratch.out.len() {
            // It answered without having read the request: nothing more is sent to it, and nothing else ever.
            course.upload.abandon();
            one.spoil();
        }
        let was_suspect = one.endpoint.is_suspect();
        let failing = matches!(status, 500 | 502..=504);
        let speaks = one.speaks();
        if failing && speaks {
            course.state.failed(one.endpoint, Blame::Status(status), now);
        } else if !failing {
            let first_at = one.first_at.unwrap_or(now);
            let us = u64::try_from(first_at.since(one.sent_at()).as_micros()).unwrap_or(u64::MAX);
            course.state.succeeded(one.endpoint, core.index, us, speaks, now);
        }
        if was_suspect && one.endpoint.is_suspect() {
            course.state.heard(one.endpoint, now);
        }
        if one.charged {
            course.state.settle(!failing, now);
        }
        if matches!(status, 502..=504) {
            let goes_on = self.goes_on(course, &one, status, now).await;
            if !matches!(goes_on, Ok(false)) {
                self.end_attempt(one.endpoint, class_of(status), one.sent_at());
                self.dispose(course, one);
                return goes_on.map(|_| None);
            }
        }
        let told = Told { sent_at: one.sent_at(), trial: one.is_trial() };
        one.end_trial();
        for loser in course.tries.drain().collect::<Vec<_>>() {
            self.lose(course, loser, false, now);
            course.state.tries.shard(core.index).cancelled.inc();
        }
        let endpoint = one.endpoint;
        self.endpoint = Some(endpoint);
        let (conn, parser) = one.into_conn();
        self.scratch.response = parser;
        let Some(conn) = conn else {
            return Err(self.not_sent(course, ErrorCode::Internal, "its connection is gone"));
        };
        Ok(Some(self.answer(course, endpoint, conn, told, now).await))
    }

    /// Whether an answer of 502, 503 or 504 is let go because another try is, or now gets, under way.
    async fn goes_on(
        &mut self,
        course: &mut Course<'a>,
        one: &Try<'a>,
        status: u16,
        now: Moment,
    ) -> Result<bool, Failure> {
        let retry_after = retry_after(one);
        if let Some(rest) = retry_after {
            one.endpoint.rest(rest.min(REST_MAX), now);
        }
        if !course.tries.is_empty() {
            return Ok(true);
        }
        let asked = Asked {
            outcome: Outcome::Status(status),
            idempotent: self.facts.idempotent,
            replayable: course.replayable,
            unsent: false,
            stale_race: false,
            free_used: course.free_used,
            attempts: course.attempts,
            untried: course.untried(now),
            fleet_in_trouble: course.in_trouble(now),
            left: course.until.since(now),
            retry_after,
        };
        match self.again(course, &asked, one.at, now).await {
            Ok(begun) => Ok(matches!(begun, Some((Begun::Yes, _)))),
            Err(over) => Err(self.over(course, over)),
        }
    }

    /// Lets an answer go. If all of it is there, its connection is kept.
    fn dispose(&mut self, course: &Course<'a>, one: Try<'a>) {
        let (conn, parser) = one.into_conn();
        if let Some(mut conn) = conn
            && let Some(buf) = conn.buf.as_mut()
        {
            let head = parser.head();
            let body = match head.framing {
                AnswerFraming::None => Some(0),
                AnswerFraming::Length(n) => Some(n),
                _ => None,
            };
            let whole = body.map(|n| n.saturating_add(head.length as u64));
            if head.keep_alive && whole == Some(buf.len() as u64) {
                buf.consume(buf.len());
                self.core.pool.release(self.core, course.service, conn);
            } else if let Some(buf) = conn.buf.take() {
                self.core.buffers.give(buf);
            }
        }
        self.scratch.response = parser;
    }
}

/// What a service may still spend on second tries.
fn budget_left(course: &Course<'_>, now: Moment) -> BudgetLeft {
    let budget = course.state.budget(now);
    BudgetLeft { spent: budget.spent_in_window, allowed: budget.allowed_in_window }
}

/// What makes the try after this one.
fn cause_of(asked: &Asked) -> Cause {
    match asked.outcome {
        _ if asked.stale_race && !asked.free_used => Cause::Stale,
        Outcome::ConnectFailed => Cause::Connect,
        Outcome::Closed | Outcome::Broken => Cause::Broken,
        Outcome::Status(_) => Cause::Status,
        Outcome::TimedOut => Cause::Slow,
    }
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3). A date is not read: clocks differ, and it is seldom sent.
fn retry_after(one: &Try<'_>) -> Option<Duration> {
    let buf = one.conn()?.buf.as_ref()?.filled();
    let lines = &one.parser.head().lines;
    let line = lines.iter().find(|l| l.kind == Name::Other && l.name.of(buf).eq_ignore_ascii_case(b"retry-after"))?;
    let text = std::str::from_utf8(line.value.of(buf)).ok()?;
    text.trim().parse::<u32>().ok().map(|s| Duration::from_secs(u64::from(s)))
}
