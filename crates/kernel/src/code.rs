//! The closed list of errors that a user of the data plane can see. Each has a stable code (also the last part of the
//! problem document's `type`), an HTTP status, a closed kind (which is the metric label), a text that is safe to show
//! to anyone, and a page in `docs/errors/` with cause and remedy. RFC 9457 gives the shape of the answer.

/// Who or what an error is about; also the `kind` label of error metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The client sent something that cannot be served.
    Client,
    /// A configured limit was reached.
    Limit,
    /// The service behind the gateway failed.
    Upstream,
    /// A deadline passed.
    Timeout,
    /// The gateway itself could not do its work.
    Gateway,
}

impl ErrorKind {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            ErrorKind::Client => "client",
            ErrorKind::Limit => "limit",
            ErrorKind::Upstream => "upstream",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Gateway => "gateway",
        }
    }
}

macro_rules! codes {
    ($( $variant:ident $code:literal $status:literal $kind:ident $title:literal ; )*) => {
        /// A stable error code. The list only grows; a code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the title of each variant is its documentation")]
        pub enum ErrorCode { $( #[doc = $title] $variant, )* }

        impl ErrorCode {
            /// Every code, in the order of the list.
            pub const ALL: &'static [ErrorCode] = &[ $( ErrorCode::$variant, )* ];

            /// The stable code, lower case with dashes.
            pub const fn code(self) -> &'static str { match self { $( ErrorCode::$variant => $code, )* } }

            /// The HTTP status of the answer; 499 and 0 are never sent (see each code's page).
            pub const fn status(self) -> u16 { match self { $( ErrorCode::$variant => $status, )* } }

            /// Who or what it is about.
            pub const fn kind(self) -> ErrorKind { match self { $( ErrorCode::$variant => ErrorKind::$kind, )* } }

            /// A short text, safe to show to anyone: the `title` of the problem document.
            pub const fn title(self) -> &'static str { match self { $( ErrorCode::$variant => $title, )* } }
        }
    };
}

codes! {
    MalformedRequest      "malformed-request"       400 Client   "The request does not follow the HTTP/1.1 grammar";
    AmbiguousFraming      "ambiguous-framing"       400 Client   "The length of the request body is ambiguous";
    BadHost               "bad-host"                400 Client   "The Host header is missing, repeated or invalid";
    ForbiddenAddress      "forbidden-address"       403 Client   "This address may not use this route";
    NoRoute               "no-route"                404 Client   "No route matches this request";
    RequestTimeout        "request-timeout"         408 Timeout  "The request did not arrive in time";
    BodyTooLarge          "body-too-large"          413 Limit    "The request body is larger than this route allows";
    UriTooLong            "uri-too-long"            414 Limit    "The request target is too long";
    ExpectationFailed     "expectation-failed"      417 Client   "The Expect header asks for something that is not supported";
    ClientConnections     "client-connection-limit" 429 Limit    "Too many connections from this address";
    HeadersTooLarge       "headers-too-large"       431 Limit    "The request headers are too large or too many";
    ClientGone            "client-gone"             499 Client   "The client closed the connection before the answer";
    Internal              "internal"                500 Gateway  "The gateway failed to handle this request";
    MethodNotSupported    "method-not-supported"    501 Client   "This method is not supported by the gateway";
    UpstreamClosed        "upstream-closed"         502 Upstream "The service closed the connection before it answered";
    UpstreamMalformed     "upstream-malformed"      502 Upstream "The service sent an answer that does not follow HTTP/1.1";
    UpstreamTruncated     "upstream-truncated"      502 Upstream "The service broke off its answer";
    UpstreamUnreachable   "upstream-unreachable"    503 Upstream "No endpoint of the service could be reached";
    UpstreamSaturated     "upstream-saturated"      503 Limit    "Every connection to the service is in use";
    ServiceOverloaded     "service-overloaded"      503 Limit    "The service is working on as many requests as it may";
    ConnectionLimit       "connection-limit"        503 Limit    "The gateway has reached its connection limit";
    UpstreamTimeout       "upstream-timeout"        504 Timeout  "The service did not answer in time";
    VersionNotSupported   "version-not-supported"   505 Client   "This HTTP version is not supported";
}

impl ErrorCode {
    /// Its place in [`ErrorCode::ALL`], for tables indexed by code.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The code with this name.
    pub fn from_code(code: &str) -> Option<ErrorCode> {
        Self::ALL.iter().copied().find(|c| c.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        for (i, c) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(c.index(), i);
            assert_eq!(ErrorCode::from_code(c.code()), Some(*c));
            assert!(c.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", c.code());
            assert!((400..600).contains(&c.status()), "{}", c.code());
        }
    }
}
