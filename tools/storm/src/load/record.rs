//! What became of one request.

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 2xx, whole, the right bytes, in time.
    Ok,
    ClientError,
    ServerError,
    OtherStatus,
    /// Not whole within the client's time limit.
    Timeout,
    /// The connection was refused.
    Connect,
    /// A connection that had been used before ended before the first byte of the answer.
    Stale,
    /// A fresh connection ended before the first byte of the answer.
    Closed,
    /// The body was cut or reset.
    Body,
    /// The body was whole and wrong.
    Corrupt,
}

/// Every kind with its name in reports.
pub(crate) const KINDS: [(&str, Kind); 10] = [
    ("2xx", Kind::Ok),
    ("4xx", Kind::ClientError),
    ("5xx", Kind::ServerError),
    ("other", Kind::OtherStatus),
    ("timeout", Kind::Timeout),
    ("connect", Kind::Connect),
    ("stale", Kind::Stale),
    ("closed", Kind::Closed),
    ("body", Kind::Body),
    ("corrupt", Kind::Corrupt),
];

impl Kind {
    pub(crate) fn of_status(status: u16) -> Kind {
        match status {
            200..=299 => Kind::Ok,
            400..=499 => Kind::ClientError,
            500..=599 => Kind::ServerError,
            _ => Kind::OtherStatus,
        }
    }

    /// Whether a client that retries would try this again.
    pub(crate) fn is_worth_a_retry(self) -> bool {
        !matches!(self, Kind::Ok | Kind::ClientError | Kind::OtherStatus)
    }
}

/// One request and its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was due, after second 0.
    pub(crate) at_us: u64,
    /// From when it was due until its outcome.
    pub(crate) latency_us: u64,
    /// From when it was due until the first byte of a body, if there was one.
    pub(crate) first_byte_us: Option<u64>,
    /// How late the generator was.
    pub(crate) lag_us: u64,
    pub(crate) kind: Kind,
    pub(crate) status: u16,
    pub(crate) attempts: u16,
    pub(crate) is_high: bool,
    pub(crate) flow: usize,
}

impl Record {
    pub(crate) fn is_ok(&self) -> bool {
        self.kind == Kind::Ok
    }
}
