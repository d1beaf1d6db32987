//! Dev only: what `cargo xtask bench` measures with. A fixed upstream ([`upstream`]), an open-loop load generator
//! ([`openloop`]) and a holder of idle connections ([`idle`]), each one thread and each a binary of its own. They work on
//! loopback only, and every run is bounded in time and in number.
//!
//! They know as much HTTP/1.1 as the benchmark needs and no more: GET without a body one way, answers with
//! `Content-Length` the other. What does not fit is counted as an error, never skipped.

pub mod answer;
pub mod idle;
pub mod openloop;
pub mod percentile;
pub mod poller;
pub mod upstream;

/// The arguments of a binary: exactly as many as there are `names`.
///
/// # Errors
/// When there are more or fewer; says what the usage is.
pub fn arguments<const N: usize>(program: &str, names: [&str; N]) -> anyhow::Result<[String; N]> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    <[String; N]>::try_from(given)
        .map_err(|given| anyhow::anyhow!("usage: {program} {}; got {} arguments", names.join(" "), given.len()))
}

/// Parses one argument.
///
/// # Errors
/// When it is not a `T`; names the argument.
pub fn parse<T: std::str::FromStr>(name: &str, text: &str) -> anyhow::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    use anyhow::Context;
    text.parse().with_context(|| format!("reading {name} from {text:?}"))
}
