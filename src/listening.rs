//! Listening sockets: those that were inherited, from a service manager or from the node before, each for the listener of
//! the configuration that it fits; and new ones for the rest.
//!
//! ```text
//! same address                        => it is that one's
//! the name of a listener, and passed
//! by a service manager                => it is that one's, wherever it listens: the manager's own configuration rules
//! the name, the same IP, and port 0
//! in the configuration                => it is that one's: any port will do
//! no listener for it                  => it is closed
//! ```
//! All or nothing: what cannot be bound is said all at once, and nothing is listened on.

use std::net::{SocketAddr, TcpListener};

use crate::app::StartError;
use crate::config::{self, Compiled, Listening, Outcome};
use crate::handover::{Held, asking};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Every socket of a node.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) gateway: Vec<Held>,
    pub(crate) admin: Held,
    pub(crate) api: Option<Held>,
    /// By the address in the configuration.
    pub(crate) pools: Vec<(SocketAddr, Held)>,
}

impl Bound {
    /// Duplicates of all of them, the gateway's first.
    pub(crate) fn duplicates(&self) -> std::io::Result<Vec<Held>> {
        let pools = self.pools.iter().map(|(_, held)| held);
        self.gateway.iter().chain([&self.admin]).chain(&self.api).chain(pools).map(Held::duplicate).collect()
    }
}

/// Finds or binds every address of the configuration.
///
/// # Errors
/// A finding for each address that cannot be had.
pub(crate) fn bind_all(compiled: &Compiled, outcome: &Outcome, mut inherited: Vec<Held>) -> Result<Bound, StartError> {
    let mut findings = Vec::new();
    let mut bind = |listening: &Listening| {
        if let Some(at) = fit(listening, &inherited) {
            return Some(inherited.swap_remove(at));
        }
        match bind(listening) {
            Ok(held) => Some(held),
            Err(error) => {
                let mut finding = config::cannot_listen(listening, &error);
                if let Some(pid) = asking::who(&compiled.store).filter(|_| is_taken(&error)) {
                    finding.remedy = format!(
                        "process {pid} runs with the same store: `evenkeel up --take-over` takes its place without a \
                         refused connection; if something else has the port, {}",
                        finding.remedy
                    );
                }
                findings.push(finding);
                None
            }
        }
    };
    let gateway: Vec<Held> = compiled.listeners.iter().filter_map(&mut bind).collect();
    let admin = bind(&compiled.admin);
    let api = compiled.api.as_ref().and_then(&mut bind);
    let pools: Vec<(SocketAddr, Held)> =
        compiled.pool_listeners.iter().filter_map(|listening| Some((listening.address, bind(listening)?))).collect();
    let Some(admin) = admin.filter(|_| findings.is_empty()) else {
        let text = config::report::text::render(&findings, Some(&outcome.source));
        return Err(StartError::Config { findings, text });
    };
    for Held { name, address, kept, .. } in inherited {
        match kept {
            true => {
                tracing::warn!(name, %address, "a socket of the service manager is for no listener of the configuration")
            }
            false => tracing::info!(%address, "the configuration no longer has this address: it is given up"),
        }
    }
    Ok(Bound { gateway, admin, api, pools })
}

fn is_taken(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}

/// Which of the sockets is for this listener.
fn fit(listening: &Listening, sockets: &[Held]) -> Option<usize> {
    let wanted = listening.address;
    let by_address = |held: &Held| held.address == wanted;
    let by_name = |held: &Held| held.name == listening.name && held.kept;
    let any_port = |held: &Held| {
        held.name == listening.name && !held.kept && wanted.port() == 0 && held.address.ip() == wanted.ip()
    };
    let tests: [&dyn Fn(&Held) -> bool; 3] = [&by_address, &by_name, &any_port];
    tests.iter().find_map(|test| sockets.iter().position(test))
}

fn bind(listening: &Listening) -> std::io::Result<Held> {
    use socket2::{Domain, Protocol, Socket, Type};
    let address: SocketAddr = listening.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart may not wait for old connections in TIME_WAIT; two processes on one port are refused all the same.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Held::new(listening.name.clone(), TcpListener::from(socket), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(name: &str, address: &str) -> Listening {
        Listening { name: name.to_owned(), address: address.parse().unwrap(), place: None, subject: String::new() }
    }

    fn held(name: &str, kept: bool) -> Held {
        Held { kept, ..bind(&listening(name, "127.0.0.1:0")).unwrap() }
    }

    #[test]
    fn a_socket_goes_to_the_listener_with_its_address_whatever_its_name() {
        let sockets = [held("gateway", true), held("other", false)];
        let wanted = listening("gateway", &sockets[1].address.to_string());
        assert_eq!(fit(&wanted, &sockets), Some(1));
    }

    #[test]
    fn the_name_decides_for_sockets_of_a_service_manager_and_else_for_any_port_alone() {
        let (passed, handed) = ([held("public", true)], [held("public", false)]);
        for (address, of_passed, of_handed) in
            [("127.0.0.1:80", Some(0), None), ("127.0.0.1:0", Some(0), Some(0)), ("[::1]:0", Some(0), None)]
        {
            let wanted = listening("public", address);
            assert_eq!((fit(&wanted, &passed), fit(&wanted, &handed)), (of_passed, of_handed), "{address}");
        }
        assert_eq!(fit(&listening("intern", "127.0.0.1:0"), &handed), None);
    }

    #[test]
    fn what_does_not_listen_is_no_listener() {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(Held::new("gateway".to_owned(), socket.into(), true).is_err());
    }
}
