//! Counters and histograms of one (database, user) at one worker. What each field counts is said at
//! [`Totals`](crate::view::Totals); who counts what, at the methods here.

use kernel::metrics::{Cell64, Latency};

use crate::view::Totals;

/// What one worker counts for one (database, user). Only that worker writes; anyone reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct GroupCells {
    /// Transactions that ended.
    pub transactions: Cell64,
    /// Those of them that failed.
    pub failed: Cell64,
    /// Statements and executions that ended.
    pub queries: Cell64,
    /// Errors that Postgres sent.
    pub server_errors: Cell64,
    /// Errors that the pooler made, by [`Failure`].
    pub failures: [Cell64; Totals::FAILURES.len()],
    /// Transactions that were begun anew at another connection, unnoticed.
    pub moved: Cell64,
    /// Bytes from clients.
    pub received: Cell64,
    /// Bytes to clients.
    pub sent: Cell64,
    /// Connections that were opened.
    pub opened: Cell64,
    /// Times that settings were replayed.
    pub replays: Cell64,
    /// Times that a client was pinned.
    pub pins: Cell64,
    /// Times that a client was given a connection.
    pub assignments: Cell64,
    /// Statements that clients prepared: each Parse from a client.
    pub client_parses: Cell64,
    /// Statements that were prepared on connections: each Parse to Postgres.
    pub server_parses: Cell64,
    /// Executions of prepared statements that were begun: each Bind.
    pub binds: Cell64,
    /// Waiting for a connection, of those that had to wait.
    pub wait: Latency,
    /// From the first byte of a statement to its end.
    pub query: Latency,
    /// From the first byte of a transaction to its end.
    pub transaction: Latency,
}

/// Errors that the pooler makes, in the order of [`Totals::FAILURES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Too many clients wait.
    QueueFull,
    /// No connection came in time.
    QueueTimeout,
    /// No primary came in time.
    NoPrimary,
    /// The connection was lost inside a transaction.
    ServerLost,
    /// A query, a transaction or the silence in one took too long.
    Timeout,
    /// A statement would have left state behind that is refused here.
    RefusedState,
    /// A client was not let in.
    Login,
    /// A message made no sense.
    Protocol,
}

impl Failure {
    /// Its place in [`Totals::failures`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name, as in labels of metrics.
    pub const fn label(self) -> &'static str {
        Totals::FAILURES[self as usize]
    }

    /// Whether it ends a transaction before that has begun at a server, so that no transaction is counted.
    pub const fn is_before(self) -> bool {
        matches!(self, Failure::QueueFull | Failure::QueueTimeout | Failure::NoPrimary)
    }

    /// Every one of them.
    pub const ALL: [Failure; Totals::FAILURES.len()] = [
        Failure::QueueFull,
        Failure::QueueTimeout,
        Failure::NoPrimary,
        Failure::ServerLost,
        Failure::Timeout,
        Failure::RefusedState,
        Failure::Login,
        Failure::Protocol,
    ];
}

impl GroupCells {
    /// A statement or an execution ended, well or not.
    #[inline]
    pub fn query_ended(&self, us: u64) {
        self.queries.inc();
        self.query.observe(us);
    }

    /// A transaction that had a connection ended. What is turned away before it has one is a [`Failure`] only.
    #[inline]
    pub fn transaction_ended(&self, us: u64, has_failed: bool) {
        self.transactions.inc();
        self.failed.add(u64::from(has_failed));
        self.transaction.observe(us);
    }

    /// The pooler made an error.
    #[inline]
    pub fn fail(&self, failure: Failure) {
        self.failures[failure.index()].inc();
    }

    /// Adds what was counted here to `totals`.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.transactions += self.transactions.get();
        totals.failed += self.failed.get();
        totals.queries += self.queries.get();
        totals.server_errors += self.server_errors.get();
        for (total, cell) in totals.failures.iter_mut().zip(&self.failures) {
            *total += cell.get();
        }
        totals.moved += self.moved.get();
        totals.received += self.received.get();
        totals.sent += self.sent.get();
        totals.opened += self.opened.get();
        totals.replays += self.replays.get();
        totals.pins += self.pins.get();
        totals.assignments += self.assignments.get();
        totals.client_parses += self.client_parses.get();
        totals.server_parses += self.server_parses.get();
        totals.binds += self.binds.get();
        self.wait.add_to(&mut totals.wait);
        self.query.add_to(&mut totals.query);
        self.transaction.add_to(&mut totals.transaction);
    }
}

impl Totals {
    /// Adds another.
    pub fn add(&mut self, other: &Totals) {
        self.transactions += other.transactions;
        self.failed += other.failed;
        self.queries += other.queries;
        self.server_errors += other.server_errors;
        for (total, more) in self.failures.iter_mut().zip(other.failures) {
            *total += more;
        }
        self.moved += other.moved;
        self.received += other.received;
        self.sent += other.sent;
        self.opened += other.opened;
        self.replays += other.replays;
        self.pins += other.pins;
        self.assignments += other.assignments;
        self.client_parses += other.client_parses;
        self.server_parses += other.server_parses;
        self.binds += other.binds;
        self.wait.merge(&other.wait);
        self.query.merge(&other.query);
        self.transaction.merge(&other.transaction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up() {
        let workers = [GroupCells::default(), GroupCells::default()];
        workers[0].transaction_ended(900, false);
        workers[1].transaction_ended(70_000, true);
        workers[1].query_ended(400);
        workers[0].fail(Failure::NoPrimary);
        workers[1].received.add(17);
        workers[0].wait.observe(5);
        let mut totals = Totals::default();
        workers.iter().for_each(|cells| cells.add_to(&mut totals));
        assert_eq!((totals.transactions, totals.failed, totals.queries, totals.received), (2, 1, 1, 17));
        assert_eq!(totals.failures, [0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!((totals.transaction.count(), totals.transaction.sum_us), (2, 70_900));
        assert_eq!((totals.query.count(), totals.wait.count()), (1, 1));
        let mut twice = totals.clone();
        twice.add(&totals);
        assert_eq!((twice.transactions, twice.transaction.sum_us, twice.failures[2]), (4, 141_800, 2));
    }

    #[test]
    fn a_failure_stands_where_its_label_does() {
        for (at, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure.index(), at);
            assert_eq!(failure.label(), Totals::FAILURES[at]);
        }
        assert_eq!(Failure::ServerLost.label(), "server_lost");
    }
}
