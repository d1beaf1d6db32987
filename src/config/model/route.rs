//! `[[route]]`: which requests, and what happens to them. The first route that matches decides, in file order. How hosts,
//! paths, methods and headers are matched is decided by `policy::route`; cross-origin answers by `policy::cors`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kernel::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::either::{HeaderWant, Hosts};
use super::scalar::{
    Cidr, ErrorStatus, HeaderName, HeaderValue, Headers, Location, Method, Name, Origin, PathPattern, PathPrefix,
};

/// A rule about where requests go. It needs `service`, `split` or `redirect`, and takes what `host`, `path`, `methods` and
/// `headers` together describe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Its name: a metric label, and what logs call it.
    ///
    /// Default: none (made of the service and the place in the file, such as `shop-1`). Range: unique; 1 to 63 lower-case
    /// letters, digits, `-` and `_`. Reload: live.
    ///
    /// Why: a name that is not needed need not be thought of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The host it is for: `shop.example.com`, or `*.example.com` for every host below it. A list takes several.
    ///
    /// Default: none (every host). Range: one host or wildcard, or a list of 1 to 100. Reload: live.
    ///
    /// Why: most gateways serve one site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Hosts>,
    /// The path it is for: `/cart` is that path alone, `/cart/*` is `/cart` and everything below it, `/users/{id}/cart` has
    /// any one segment at `{id}`.
    ///
    /// Default: none (every path). Range: one pattern. Reload: live.
    ///
    /// Why: a route for a whole host needs no path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathPattern>,
    /// The methods it is for.
    ///
    /// Default: `[]`. Range: `0` to `32` methods; an empty list means every method. Reload: live.
    ///
    /// Why: the service knows best which methods it takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Headers that a request must have: a text is the exact value, `true` takes any value.
    ///
    /// Default: `{}`. Range: `0` to `32` headers. Reload: live.
    ///
    /// Why: most routes are told apart by host and path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers<HeaderWant>,
    /// The service that the requests go to.
    ///
    /// Default: none (then `split` or `redirect` must be there). Range: the name of a service. Reload: live.
    ///
    /// Why: only you know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Several services and their weights, such as `{ shop = 90, shop-next = 10 }`.
    ///
    /// Default: none (all requests go to `service`). Range: `1` to `32` services, weights 0 to 1000000. Reload: live.
    ///
    /// Why: a split is for trying something out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<BTreeMap<Name, u32>>,
    /// What is taken off the front of the path before the request is sent on, such as `/shop`.
    ///
    /// Default: none (the path is sent as it came). Range: the fixed beginning of `path`. Reload: live.
    ///
    /// Why: an application makes links from the path it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<PathPrefix>,
    /// What is put in the place of `strip_prefix`, such as `/v2`.
    ///
    /// Default: none (nothing is). Range: a path; needs `strip_prefix`. Reload: live.
    ///
    /// Why: what is stripped is mostly not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<PathPrefix>,
    /// Answers with a redirect instead of asking a service.
    ///
    /// Default: none (the request goes to a service). Range: one table. Reload: live.
    ///
    /// Why: a route forwards unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Changes to the request's headers before it is sent on.
    ///
    /// Default: none (only what HTTP demands is changed). Range: one table. Reload: live.
    ///
    /// Why: an application should get what the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderChanges>,
    /// Changes to the answer's headers before it is sent on.
    ///
    /// Default: none (only what HTTP demands is changed). Range: one table. Reload: live.
    ///
    /// Why: a client should get what the application sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderChanges>,
    /// Client addresses and networks that may use the route. Others are answered 403.
    ///
    /// Default: `[]`. Range: `0` to `1000` networks; an empty list means all. Reload: live.
    ///
    /// Why: most routes are for everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Cidr>,
    /// Client addresses and networks that may not use the route, whatever `allow` says.
    ///
    /// Default: `[]`. Range: `0` to `1000` networks. Reload: live.
    ///
    /// Why: nobody is shut out unless you say so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Cidr>,
    /// Answers cross-origin questions of browsers (CORS) in place of the service.
    ///
    /// Default: none (the service answers them). Range: one table. Reload: live.
    ///
    /// Why: two that answer contradict each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// How long a request may take to be answered.
    ///
    /// Default: none (the `timeout` of the service). Range: `1ms` to `1d`. Reload: live.
    ///
    /// Why: a service mostly answers all its paths in like time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The largest request body.
    ///
    /// Default: none (the `max_body` of the gateway). Range: `0B` to `1024GiB`. Reload: live.
    ///
    /// Why: one limit for all is enough until there are uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<ByteSize>,
    /// Pages for errors that the gateway makes, by status: `{ "503" = "sorry.html" }`. Clients that accept HTML get them
    /// in place of the problem document. A path counts from the directory of this file.
    ///
    /// Default: `{}`. Range: `0` to `32` pages of at most 64 KiB. Reload: live.
    ///
    /// Why: the problem document is right for programs and readable for people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub error_pages: BTreeMap<ErrorStatus, PathBuf>,
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The `Location`: a URL or a path. `{host}`, `{path}` and `{query}` (with its question mark) are filled in.
    ///
    /// Default: none (required). Range: a path or an http(s) URL. Reload: live.
    ///
    /// Why: only you know it.
    pub to: Location,
    /// The status: 301 and 308 are permanent, 302, 303 and 307 are not; 307 and 308 keep the method.
    ///
    /// Default: `307`. Range: 301, 302, 303, 307 or 308. Reload: live.
    ///
    /// Why: a permanent one is kept by browsers for ever, also when it was a mistake.
    #[serde(default = "temporary")]
    pub status: u16,
}

/// Headers to remove, then headers to set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// Headers to set; what is there under the name is replaced.
    ///
    /// Default: `{}`. Range: `0` to `64` headers. Reload: live.
    ///
    /// Why: nothing is added unasked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: Headers<HeaderValue>,
    /// Headers to remove.
    ///
    /// Default: `[]`. Range: `0` to `64` headers. Reload: live.
    ///
    /// Why: nothing is taken away unasked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
}

/// Cross-origin rules that the gateway answers for (the Fetch standard, CORS protocol).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// The origins that may call, such as `https://app.example.com`, or `"*"` for any.
    ///
    /// Default: none (required). Range: `1` to `256` origins. Reload: live.
    ///
    /// Why: only you know them.
    pub origins: Vec<Origin>,
    /// The methods that they may use beyond GET, HEAD and POST, which browsers always allow; `"*"` for any.
    ///
    /// Default: `[]`. Range: `0` to `32` methods. Reload: live.
    ///
    /// Why: whether other sites may change or delete something is yours to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// The request headers that they may send beyond those that browsers always allow; `"*"` for any but
    /// `authorization`.
    ///
    /// Default: `["content-type"]`. Range: `0` to `64` headers. Reload: live.
    ///
    /// Why: without it a script cannot send JSON.
    #[serde(default = "content_type")]
    pub headers: Vec<HeaderName>,
    /// The answer's headers that scripts may read.
    ///
    /// Default: `[]`. Range: `0` to `64` headers. Reload: live.
    ///
    /// Why: browsers show the common ones anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<HeaderName>,
    /// Whether browsers may send cookies along.
    ///
    /// Default: `false`. Range: `true` or `false`. Reload: live.
    ///
    /// Why: a site that may use a reader's cookies acts in the reader's name.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may keep the answer to its question.
    ///
    /// Default: `10m`. Range: `0s` to `1d`. Reload: live.
    ///
    /// Why: it spares most of the questions, and a change of these rules is seen within minutes.
    #[serde(default = "ten_minutes")]
    pub max_age: Span,
}

const fn temporary() -> u16 {
    307
}

const fn ten_minutes() -> Span {
    Span::from_secs(600)
}

fn content_type() -> Vec<HeaderName> {
    HeaderName::parse("content-type").into_iter().collect()
}
