//! Questions to DNS, over hickory: UDP first, TCP where an answer does not fit. Nothing is cached here, for when to ask again
//! is decided by `policy::resolve` from the times to live.
//!
//! - **Addresses**: A records; AAAA records only if there are none, because a host that has both is one host, and counting
//!   it twice would double its share. Each address is an endpoint.
//! - **SRV** (RFC 2782): each record is an endpoint with all addresses of its target. The distinct priorities, in order,
//!   are tiers 0, 1, 2 …; a weight of 0 counts as 1, which is a small share beside others. A target of `.` ("no such
//!   service here") is no endpoint.
//!
//! A time to live is the shortest of all records that an answer rests on, aliases included. What comes in another order is
//! the same answer. The hosts file is not looked at: `endpoints` takes names from there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gateway::plan::EndpointPlan;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::task::JoinSet;

/// Endpoints of one answer, at most: a request may look at all of them.
const MOST: usize = 1000;
/// Addresses of one SRV target, at most: more are not tried within any timeout.
const ADDRESSES: usize = 16;
/// How long one server has for one question, at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a server of the configuration that does not answer is asked again.
const REPETITIONS: usize = 1;

/// Targets of SRV records that are asked for at a time.
const AT_A_TIME: usize = 16;

/// Addresses of a host, and for how long they hold.
type OfHost = (Vec<IpAddr>, Duration);

/// Whom to ask. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dns {
    resolver: TokioResolver,
}

/// Why there is no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    /// An answer with nothing in it.
    #[error("the name has no such records")]
    Empty,
    /// An error, from a server or on the way.
    #[error("{0}")]
    Failed(#[from] NetError),
    /// Nothing came.
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

impl Dns {
    /// Asks these servers, or the system's.
    ///
    /// # Errors
    /// If the system does not say which.
    pub(super) fn new(servers: Option<&[SocketAddr]>) -> Result<Dns, DnsError> {
        let mut builder = match servers {
            None => TokioResolver::builder_tokio()?,
            Some(servers) => {
                let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
                let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
                builder.options_mut().attempts = REPETITIONS;
                builder
            }
        };
        let options = builder.options_mut();
        options.timeout = options.timeout.min(PATIENCE);
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // Aliases have times to live too.
        options.preserve_intermediates = true;
        Ok(Dns { resolver: builder.build()? })
    }

    /// An endpoint for each address of `host`, and for how long that holds.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<(Vec<EndpointPlan>, Duration), DnsError> {
        let (addresses, ttl) = self.of_host(host).await?;
        let endpoint = |ip| {
            let address = SocketAddr::new(ip, port);
            EndpointPlan { name: address.to_string(), addresses: vec![address], weight: 1, tier: 0 }
        };
        Ok((addresses.into_iter().take(MOST).map(endpoint).collect(), ttl))
    }

    /// An endpoint for each SRV record of `name`, and for how long that holds.
    pub(super) async fn records(&self, name: &str) -> Result<(Vec<EndpointPlan>, Duration), DnsError> {
        let answers = self.look_up(name, RecordType::SRV).await?;
        let mut ttl = shortest(&answers);
        let mut records: Vec<SRV> =
            answers.iter().filter_map(srv).filter(|srv| !srv.target.is_root()).cloned().collect();
        records.sort_by_cached_key(|srv| (srv.priority, srv.target.to_string(), srv.port));
        records.truncate(MOST);
        let hosts = self.of_hosts(records.iter().map(|srv| srv.target.to_string()).collect()).await?;
        ttl = hosts.values().map(|(_, ttl)| *ttl).fold(ttl, Duration::min);
        let endpoints = endpoints(&records, &hosts);
        if endpoints.is_empty() { Err(DnsError::Empty) } else { Ok((endpoints, ttl)) }
    }

    /// The same as [`Dns::of_host`] for several hosts, without those that are no more. One that cannot be asked for makes
    /// the whole answer unusable.
    async fn of_hosts(&self, mut hosts: BTreeSet<String>) -> Result<BTreeMap<String, OfHost>, DnsError> {
        let (mut asking, mut known) = (JoinSet::new(), BTreeMap::new());
        loop {
            while asking.len() < AT_A_TIME
                && let Some(host) = hosts.pop_first()
            {
                let dns = self.clone();
                asking.spawn(async move {
                    let answer = dns.of_host(&host).await;
                    (host, answer)
                });
            }
            match asking.join_next().await {
                None => return Ok(known),
                Some(Ok((host, Ok(addresses)))) => drop(known.insert(host, addresses)),
                Some(Ok((_, Err(DnsError::Empty)))) => {}
                Some(Ok((_, Err(error)))) => return Err(error),
                Some(Err(_)) => return Err(NetError::Message("a question ended without a result").into()),
            }
        }
    }

    /// The addresses of a host, in order, and for how long they hold.
    async fn of_host(&self, host: &str) -> Result<OfHost, DnsError> {
        let answers = match self.look_up(host, RecordType::A).await {
            Err(DnsError::Empty) => self.look_up(host, RecordType::AAAA).await?,
            answered => answered?,
        };
        let addresses: BTreeSet<IpAddr> = answers.iter().filter_map(address).collect();
        if addresses.is_empty() {
            return Err(DnsError::Empty);
        }
        Ok((addresses.into_iter().collect(), shortest(&answers)))
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) if lookup.answers().iter().any(|record| record.record_type() == kind) => {
                Ok(lookup.answers().to_vec())
            }
            Ok(_) => Err(DnsError::Empty),
            Err(error) if error.is_no_records_found() => Err(DnsError::Empty),
            Err(error) => Err(DnsError::Failed(error)),
        }
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    // What a server says about names that are not there is believed: there is nobody else to ask.
    NameServerConfig::new(address.ip(), true, vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())])
}

fn endpoints(records: &[SRV], hosts: &BTreeMap<String, OfHost>) -> Vec<EndpointPlan> {
    let priorities: Vec<u16> = records.iter().map(|srv| srv.priority).collect::<BTreeSet<_>>().into_iter().collect();
    let endpoint = |srv: &SRV| {
        let host = srv.target.to_string();
        let addresses = hosts.get(&host)?.0.iter().take(ADDRESSES);
        let tier = priorities.iter().position(|priority| *priority == srv.priority).unwrap_or_default();
        Some(EndpointPlan {
            name: format!("{}:{}", host.trim_end_matches('.'), srv.port),
            addresses: addresses.map(|ip| SocketAddr::new(*ip, srv.port)).collect(),
            weight: u32::from(srv.weight).max(1),
            tier: u8::try_from(tier).unwrap_or(u8::MAX),
        })
    };
    records.iter().filter(|srv| srv.port != 0).filter_map(endpoint).collect()
}

fn srv(record: &Record) -> Option<&SRV> {
    match &record.data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn shortest(records: &[Record]) -> Duration {
    Duration::from_secs(records.iter().map(|record| u64::from(record.ttl)).min().unwrap_or_default())
}
