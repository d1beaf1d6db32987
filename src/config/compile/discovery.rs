//! Where endpoints come from that nobody lists.

use kernel::{Rule, Severity};

use crate::config::context::Context;
use crate::config::model::{Name, Register, Service};
use crate::discovery::{DiscoveryPlan, Sources};
use crate::path;

pub(crate) const NO_ENDPOINTS: Rule = Rule {
    id: "no-endpoints",
    severity: Severity::Error,
    title: "A service is nowhere",
    what: "A service has no `endpoints`, and neither `dns`, `srv` nor `register` either.",
    why: "No request to it could be answered, ever.",
    remedy: "List its endpoints, name them in DNS with `dns` or `srv`, or let them register with `register = {}`.",
    example: "[service.shop]\nendpoints = [\"127.0.0.1:9101\"]",
};

/// The sources of every service that has any.
pub(super) fn discovery(context: &Context<'_>) -> DiscoveryPlan {
    let config = context.config;
    for (name, _) in config.service.iter().filter(|(_, s)| s.endpoints.is_empty() && !s.finds_endpoints()) {
        say_nowhere(context, name);
    }
    let sources = |(name, service): (&Name, &Service)| Sources {
        service: name.to_string(),
        dns: service.dns.as_ref().map(|dns| {
            let (host, port) = dns.parts();
            (host.to_owned(), port)
        }),
        srv: service.srv.as_ref().map(ToString::to_string),
        max_lease: service.register.as_ref().map(|Register { max_lease }| (*max_lease).into()),
    };
    let services = config.service.iter().filter(|(_, service)| service.finds_endpoints()).map(sources).collect();
    DiscoveryPlan { servers: config.dns.as_ref().map(|dns| dns.addresses()), services }
}

/// Unless the file does say where the service is, in a way that cannot be used: that was said already.
fn say_nowhere(context: &Context<'_>, name: &Name) {
    let at = path!["service", name.as_str()];
    if ["endpoints", "dns", "srv", "register"].iter().any(|key| context.is_damaged(&at.then(*key))) {
        return;
    }
    let message = format!("the service `{name}` has no endpoints, and no way to find any");
    context.say(
        &NO_ENDPOINTS,
        &at,
        message,
        "add `endpoints`, such as `[\"127.0.0.1:9101\"]`, or `dns`, `srv` or `register`",
    );
}
