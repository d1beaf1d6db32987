//! Errors of both APIs as problem documents (RFC 9457). The list of codes is closed; each has a stable name, a status
//! and a title that is safe to show, and each answer's `detail` says what was asked and what would help. A browser gets
//! the same document as a page (see `guard`).

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use serde_json::{Map, Value};

/// What stands before the code in a document's `type`. An identifier, not an address: nothing is to be fetched.
pub const TYPE_PREFIX: &str = "urn:evenkeel:problem:";

macro_rules! problems {
    ($( $variant:ident $code:literal $status:literal $title:literal ; )*) => {
        /// A stable error code of the two APIs. The list only grows; a code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the title of each variant is its documentation")]
        pub enum ProblemCode { $( #[doc = $title] $variant, )* }

        impl ProblemCode {
            /// Every code, in the order of the list.
            pub const ALL: &'static [ProblemCode] = &[ $( ProblemCode::$variant, )* ];

            /// The stable code, lower case with dashes.
            pub const fn code(self) -> &'static str { match self { $( ProblemCode::$variant => $code, )* } }

            /// The HTTP status of the answer.
            pub const fn status(self) -> u16 { match self { $( ProblemCode::$variant => $status, )* } }

            /// A short text, safe to show to anyone.
            pub const fn title(self) -> &'static str { match self { $( ProblemCode::$variant => $title, )* } }
        }
    };
}

problems! {
    MalformedCall     "malformed-call"      400 "The request cannot be understood";
    TokenRequired     "token-required"      401 "A valid token is needed";
    ScopeMissing      "scope-missing"       403 "The token does not have the scope that is needed";
    CsrfRefused       "csrf-refused"        403 "The request does not prove that it was meant";
    NotFound          "not-found"           404 "There is nothing at this address";
    NameUnknown       "name-unknown"        404 "There is no service, endpoint or pool of this name";
    TraceUnknown      "trace-unknown"       404 "No trace of this request is kept";
    MethodNotAllowed  "method-not-allowed"  405 "This address does not take this method";
    BodyTimeout       "body-timeout"        408 "The request body did not arrive in time";
    ReloadBusy        "reload-busy"         409 "A reload is under way";
    LastEndpoint      "last-endpoint"       409 "The service would be left without an endpoint";
    RegistrationsFull "registrations-full"  409 "The service has as many registered endpoints as it can hold";
    CallTooLarge      "call-too-large"      413 "The request body is too large";
    HostRefused       "host-refused"        421 "The Host header is not a name of this server";
    ReloadRefused     "reload-refused"      422 "The configuration was not taken over";
    ActionRefused     "action-refused"      422 "The action was not taken";
    RegistrationRefused "registration-refused" 422 "The endpoint cannot be registered like this";
    CallFailed        "call-failed"         500 "The request failed inside the node";
    CallTimeout       "call-timeout"        503 "The request took too long";
    NotKept           "not-kept"            503 "It is not known to be kept";
    StoreUnreadable   "store-unreadable"    503 "What is kept cannot be read now";
    FollowersFull     "followers-full"      503 "As many follow the journal as can";
}

/// One error answer.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which error.
    pub code: ProblemCode,
    /// What happened to this request, and what would help.
    pub detail: String,
    /// Further members of the document.
    pub extra: Map<String, Value>,
    challenges: Vec<&'static str>,
}

impl Problem {
    /// An error answer.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), extra: Map::new(), challenges: Vec::new() }
    }

    /// With a further member.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Problem {
        self.extra.insert(name.to_owned(), value);
        self
    }

    /// With a `WWW-Authenticate` challenge; several may be added.
    #[must_use]
    pub(crate) fn challenge(mut self, challenge: &'static str) -> Problem {
        self.challenges.push(challenge);
        self
    }

    /// The document.
    pub fn document(&self) -> Value {
        let mut members = Map::new();
        members.insert("type".into(), format!("{TYPE_PREFIX}{}", self.code.code()).into());
        members.insert("title".into(), self.code.title().into());
        members.insert("status".into(), self.code.status().into());
        members.insert("detail".into(), self.detail.clone().into());
        members.insert("code".into(), self.code.code().into());
        members.extend(self.extra.clone());
        Value::Object(members)
    }
}

impl IntoResponse for Problem {
    /// The JSON document; the problem itself travels along in the extensions, for whoever wants to show it otherwise.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, format!("{:#}\n", self.document())).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for challenge in &self.challenges {
            response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_differ_from_the_gateways() {
        for (at, code) in ProblemCode::ALL.iter().enumerate() {
            assert!(code.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", code.code());
            assert!((400..600).contains(&code.status()), "{}", code.code());
            assert!(ProblemCode::ALL[..at].iter().all(|other| other.code() != code.code()), "{}", code.code());
            assert_eq!(kernel::ErrorCode::from_code(code.code()), None, "{}", code.code());
        }
    }
}
