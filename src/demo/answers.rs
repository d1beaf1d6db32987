//! What the sample shop answers: its routes, its products, and how long it takes for each. Pure but for reading a
//! request's body; the replica that uses it is in [`super::shop`].

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, Method, Response, StatusCode};
use kernel::Entropy;
use serde_json::{Value, json};

/// The body of an answer.
pub(super) type Answer = Full<Bytes>;

/// The header that names the replica which answered.
pub(super) const REPLICA_HEADER: &str = "x-shop-replica";
/// The largest body that is read.
const BODY_LIMIT: usize = 16 * 1024;
/// The most of one product that a cart takes.
const QUANTITY_LIMIT: u32 = 100;
/// Every answer of the shop takes this long at least, and those but for reports at most [`SLOWEST_MS`].
const QUICKEST_MS: f64 = 1.0;
/// The mean of the exponential part of the service time: most answers are quick, a few are not.
const MEAN_MS: f64 = 5.0;
/// Where the tail of the service time is cut.
const SLOWEST_MS: f64 = 30.0;
/// A report takes from 200 ms to 400 ms.
const REPORT_MS: (u64, u64) = (200, 400);

/// Name and price in cents of each product; its id is its place, from 1.
const PRODUCTS: [(&str, u32); 12] = [
    ("brass compass", 8_900),
    ("oilskin coat", 14_500),
    ("signal lamp", 6_200),
    ("deck broom", 1_900),
    ("sounding lead", 3_400),
    ("sea chart", 2_700),
    ("storm lantern", 4_800),
    ("marlinspike", 1_250),
    ("sail needles", 950),
    ("ship's bell", 11_900),
    ("log book", 1_600),
    ("heaving line", 2_100),
];

/// How many products there are.
pub(super) const PRODUCT_COUNT: usize = PRODUCTS.len();

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    List,
    Product(Option<usize>),
    Cart,
    Report,
    Health,
    WrongMethod,
    Unknown,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CartItem {
    product: usize,
    #[serde(default = "one")]
    quantity: u32,
}

fn one() -> u32 {
    1
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Route {
        let reads = *method == Method::GET || *method == Method::HEAD;
        let (route, fits) = match path {
            "/" => (Route::List, reads),
            "/cart" => (Route::Cart, *method == Method::POST),
            "/slow" => (Route::Report, reads),
            "/healthz" => (Route::Health, reads),
            _ => match path.strip_prefix("/product/") {
                Some(id) => (Route::Product(id.parse().ok()), reads),
                None => (Route::Unknown, true),
            },
        };
        if fits { route } else { Route::WrongMethod }
    }

    /// How long the shop works on it.
    pub(super) fn service_time(self, entropy: &mut Entropy) -> Duration {
        match self {
            Route::Report => Duration::from_millis(REPORT_MS.0 + entropy.below(REPORT_MS.1 - REPORT_MS.0)),
            Route::Health | Route::WrongMethod | Route::Unknown => Duration::ZERO,
            Route::List | Route::Product(_) | Route::Cart => {
                let tail = -MEAN_MS * (1.0 - entropy.unit()).ln();
                Duration::from_secs_f64((QUICKEST_MS + tail).min(SLOWEST_MS) / 1000.0)
            }
        }
    }

    /// Whether an injected error can hit it: a shop that answers badly can still be alive.
    pub(super) fn may_fail(self) -> bool {
        self != Route::Health
    }
}

/// The answer of replica `number`.
pub(super) fn answer(number: usize, route: &Route, body: Result<Bytes, String>) -> Response<Answer> {
    let mut response = match (route, body) {
        (_, Err(what)) => problem(413, &what),
        (Route::List, _) => {
            let products: Vec<Value> = (1..=PRODUCT_COUNT).filter_map(product).collect();
            json(200, &json!({ "products": products }))
        }
        (Route::Product(id), _) => match id.and_then(product) {
            Some(product) => json(200, &product),
            None => problem(404, &format!("there is no such product; ids go from 1 to {PRODUCT_COUNT}")),
        },
        (Route::Cart, Ok(body)) => match cart(&body) {
            Ok(cart) => json(201, &cart),
            Err(what) => problem(400, &format!("{what}; send a JSON object such as {{\"product\":3,\"quantity\":2}}")),
        },
        (Route::Report, _) => {
            let value: u32 = PRODUCTS.iter().map(|(_, cents)| cents).sum();
            json(200, &json!({ "report": "stock", "products": PRODUCT_COUNT, "value_cents": value }))
        }
        (Route::Health, _) => json(200, &json!({ "status": "ok" })),
        (Route::WrongMethod, _) => problem(405, "this path has another method"),
        (Route::Unknown, _) => problem(404, "the shop has /, /product/{id}, /cart, /slow and /healthz"),
    };
    name_replica(&mut response, number);
    response
}

/// The injected error of replica `number`.
pub(super) fn failure(number: usize) -> Response<Answer> {
    let mut response = problem(500, "this replica fails because its error_rate says so");
    name_replica(&mut response, number);
    response
}

fn name_replica(response: &mut Response<Answer>, number: usize) {
    response.headers_mut().insert(REPLICA_HEADER, HeaderValue::from(number));
}

fn product(id: usize) -> Option<Value> {
    let (name, cents) = PRODUCTS.get(id.checked_sub(1)?)?;
    Some(json!({ "id": id, "name": name, "price_cents": cents }))
}

fn cart(body: &[u8]) -> Result<Value, String> {
    let item: CartItem = parse(body)?;
    let (name, cents) = item
        .product
        .checked_sub(1)
        .and_then(|at| PRODUCTS.get(at))
        .ok_or_else(|| format!("there is no product {}; ids go from 1 to {PRODUCT_COUNT}", item.product))?;
    if !(1..=QUANTITY_LIMIT).contains(&item.quantity) {
        return Err(format!("a quantity is from 1 to {QUANTITY_LIMIT}, not {}", item.quantity));
    }
    Ok(json!({ "product": name, "quantity": item.quantity, "total_cents": cents * item.quantity }))
}

/// The whole body, if it is not too large and arrives.
pub(super) async fn collect(body: Incoming) -> Result<Bytes, String> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(format!("cannot read a body of at most {BODY_LIMIT} bytes: {error}")),
    }
}

/// A JSON body as what it should be.
pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("cannot read the body: {error}"))
}

/// A JSON answer.
pub(super) fn json(status: u16, value: &impl serde::Serialize) -> Response<Answer> {
    // What is serialized here are plain structs and values, which always can be; an empty object says so if not.
    let mut text = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    text.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that says what is wrong.
pub(super) fn problem(status: u16, what: &str) -> Response<Answer> {
    json(status, &json!({ "error": what }))
}

/// Whether a request came from this machine's own programs, and not from a web page: one of another origin, or one
/// whose name was made to point here.
pub(super) fn is_from_here(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost") && !headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_route() {
        let of = |method: &Method, path| Route::of(method, path);
        assert_eq!(of(&Method::GET, "/product/7"), Route::Product(Some(7)));
        assert_eq!(of(&Method::GET, "/product/x"), Route::Product(None));
        assert_eq!(of(&Method::GET, "/cart"), Route::WrongMethod);
        assert_eq!(of(&Method::HEAD, "/"), Route::List);
        assert_eq!(of(&Method::GET, "/else"), Route::Unknown);
    }

    #[test]
    fn a_cart_is_reckoned_and_nonsense_is_refused() {
        assert_eq!(cart(br#"{"product":3,"quantity":2}"#).unwrap()["total_cents"], 12_400);
        assert_eq!(cart(br#"{"product":3}"#).unwrap()["quantity"], 1);
        for bad in [r#"{"product":0}"#, r#"{"product":13}"#, r#"{"product":1,"quantity":0}"#, r#"{"produce":1}"#, ""] {
            assert!(cart(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn service_times_are_shaped_as_the_header_says() {
        let mut entropy = Entropy::from_seed(11);
        let mut times: Vec<Duration> = (0..10_000).map(|_| Route::List.service_time(&mut entropy)).collect();
        times.sort();
        let at = |q: usize| times[q].as_secs_f64() * 1000.0;
        assert!(at(0) >= 1.0 && at(9_999) <= 30.0);
        // 1 + 5 ln 2 = 4.47 ms in the middle and 1 + 5 ln 100 = 24.0 ms at p99; sigma 0.05 ms and 0.5 ms.
        assert!((4.2..4.8).contains(&at(5_000)) && (22.0..26.0).contains(&at(9_900)), "{} {}", at(5_000), at(9_900));
        let report = Route::Report.service_time(&mut entropy);
        assert!((200..400).contains(&report.as_millis()));
    }

    #[test]
    fn a_web_page_cannot_set_faults() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect();
            is_from_here(&headers)
        };
        assert!(check(&[("host", "127.0.0.1:4000")]) && check(&[("host", "localhost")]));
        assert!(!check(&[("host", "evil.test:4000")]) && !check(&[]));
        assert!(!check(&[("host", "127.0.0.1:4000"), ("origin", "http://evil.test")]));
    }
}
