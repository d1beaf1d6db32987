//! For tests: sockets in memory that behave like non-blocking ones, certificates, and both ends of a TLS connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};

use super::{TlsStream, accept_config, connect_config, server_name};
use crate::plan::{ClientTlsPlan, ServerTlsMode, ServerTlsPlan};

/// One direction.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) bytes: VecDeque<u8>,
    /// What fits.
    pub(crate) room: usize,
    /// What one read gives at most.
    pub(crate) sip: usize,
    /// Whether no more will come.
    pub(crate) is_closed: bool,
    /// Calls so far.
    pub(crate) reads: usize,
    pub(crate) writes: usize,
}

/// One end of a pair of sockets.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) incoming: Rc<RefCell<Way>>,
    pub(crate) outgoing: Rc<RefCell<Way>>,
}

/// Two ends.
pub(crate) fn wires() -> (Wire, Wire) {
    let way = || {
        let bytes = VecDeque::new();
        Rc::new(RefCell::new(Way { bytes, room: usize::MAX, sip: usize::MAX, is_closed: false, reads: 0, writes: 0 }))
    };
    let (there, back) = (way(), way());
    (Wire { incoming: Rc::clone(&back), outgoing: Rc::clone(&there) }, Wire { incoming: there, outgoing: back })
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut way = self.incoming.borrow_mut();
        way.reads += 1;
        if way.bytes.is_empty() {
            return if way.is_closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let most = buf.len().min(way.sip);
        way.bytes.read(&mut buf[..most])
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut way = self.outgoing.borrow_mut();
        way.writes += 1;
        if way.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = way.room.saturating_sub(way.bytes.len()).min(buf.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        way.bytes.extend(&buf[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A certificate and its key, in DER.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// What may be said of a certificate that is asked for.
pub(crate) fn parameters(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters
}

/// A certificate that signs itself.
pub(crate) fn self_signed(parameters: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(algorithm).unwrap();
    Pair { certificate: parameters.self_signed(&key).unwrap().der().to_vec(), key: key.serialize_der() }
}

/// An authority, and what it signs.
pub(crate) struct Authority {
    pub(crate) certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut parameters = parameters(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().der().to_vec();
        Authority { certificate, issuer: Issuer::new(parameters, key) }
    }

    pub(crate) fn sign(&self, parameters: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Pair { certificate, key: key.serialize_der() }
    }
}

pub(crate) fn client_plan(pair: &Pair, client_ca: Vec<Vec<u8>>) -> ClientTlsPlan {
    ClientTlsPlan { is_required: true, certificates: vec![pair.certificate.clone()], key: pair.key.clone(), client_ca }
}

pub(crate) fn server_plan(mode: ServerTlsMode, ca: Vec<Vec<u8>>) -> ServerTlsPlan {
    ServerTlsPlan { mode, direct: false, ca }
}

/// Both ends of a connection that has yet to be agreed on: the client's, the server's.
pub(crate) fn ends(server: &ClientTlsPlan, client: &ServerTlsPlan, host: &str) -> (TlsStream<Wire>, TlsStream<Wire>) {
    let (config, _) = accept_config(server).unwrap();
    let (ours, theirs) = wires();
    let accepted = rustls::ServerConnection::new(config).unwrap();
    let connected = rustls::ClientConnection::new(connect_config(client).unwrap(), server_name(host).unwrap()).unwrap();
    (TlsStream::new(connected, ours, &[]).unwrap(), TlsStream::new(accepted, theirs, &[]).unwrap())
}

/// Goes on until both have agreed, or one has failed.
pub(crate) fn shake(client: &mut TlsStream<Wire>, server: &mut TlsStream<Wire>) -> io::Result<()> {
    for _ in 0..100 {
        for end in [&mut *client, &mut *server] {
            end.flush()?;
            match end.read(&mut [0; 16]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(read) => panic!("{read} bytes before the end of the handshake"),
            }
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    panic!("no agreement")
}

/// Both ends, agreed.
pub(crate) fn agreed() -> (TlsStream<Wire>, TlsStream<Wire>) {
    let pair = self_signed(&parameters("server", &["server"]), &rcgen::PKCS_ECDSA_P256_SHA256);
    let plan = server_plan(ServerTlsMode::Require, vec![]);
    let (mut client, mut server) = ends(&client_plan(&pair, vec![]), &plan, "server");
    shake(&mut client, &mut server).unwrap();
    (client, server)
}

/// A client with this certificate, or none.
pub(crate) fn connect_with(
    config: &Arc<rustls::ServerConfig>,
    pair: Option<&Pair>,
) -> (TlsStream<Wire>, TlsStream<Wire>) {
    let builder = rustls::ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::verify::Servers::any()));
    let client = match pair {
        Some(pair) => builder
            .with_client_auth_cert(
                vec![pair.certificate.clone().into()],
                rustls::pki_types::PrivateKeyDer::try_from(pair.key.clone()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let (ours, theirs) = wires();
    let connected = rustls::ClientConnection::new(Arc::new(client), server_name("server").unwrap()).unwrap();
    let accepted = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
    (TlsStream::new(connected, ours, &[]).unwrap(), TlsStream::new(accepted, theirs, &[]).unwrap())
}
