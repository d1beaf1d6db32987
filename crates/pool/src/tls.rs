//! TLS on both sides, by rustls with ring: configurations from plans, what is read out of certificates, and [`TlsStream`], a
//! connection over a non-blocking socket.
//!
//! Towards clients: TLS 1.2 and 1.3, ALPN `postgresql` for those that offer any, no tickets and no resumption (as
//! PostgreSQL; clients do not ask for them, and a table of sessions would be state for nothing). A client certificate is
//! asked for where there is somebody to have signed it, and not required: whether it is needed depends on the user, and
//! is said in words rather than by an alert.
//!
//! Towards servers: as libpq's `sslmode`; see [`verify`]. Certificates have to be X.509 version 3 where they are verified.
//! Absent on purpose: revocation lists, TLS below 1.2, certificates of our own towards servers.

mod certificate;
mod explain;
mod stream;
pub mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

pub use certificate::{common_name, end_point_hash};
pub use explain::explain;
pub use stream::TlsStream;

use crate::plan::{ClientTlsPlan, ServerTlsMode, ServerTlsPlan};

/// The protocol's name in ALPN, which direct TLS has to agree on.
pub const ALPN: &[u8] = b"postgresql";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key is none.
    #[error("the private key is neither PKCS#8 nor SEC1 nor PKCS#1: {0}")]
    Key(&'static str),
    /// Certificates and key do not go together, or are not supported.
    #[error("certificate and key: {0}")]
    Certificate(#[source] rustls::Error),
    /// A certificate of an authority cannot be read.
    #[error("certificate {number} of the authorities (ca): {source}")]
    Authority {
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No authority is known.
    #[error("no certificate authorities: give `ca`, or install the system's (package ca-certificates)")]
    NoAuthority,
    /// The verifier cannot be built.
    #[error("certificate authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The name of a server is no name.
    #[error("{0:?} is neither a DNS name nor an address: no certificate can be checked for it")]
    Name(String),
}

/// The cryptography that is used, whatever the process has as its default.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// TLS towards clients, and the hash of our certificate that SCRAM-SHA-256-PLUS binds to, if it has one.
///
/// # Errors
///
/// If certificates or key are not what they have to be.
pub fn accept_config(plan: &ClientTlsPlan) -> Result<(Arc<ServerConfig>, Option<Vec<u8>>), TlsError> {
    let chain: Vec<CertificateDer<'static>> = plan.certificates.iter().cloned().map(CertificateDer::from).collect();
    let hash = plan.certificates.first().and_then(|der| end_point_hash(der));
    let key = PrivateKeyDer::try_from(plan.key.clone()).map_err(TlsError::Key)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Certificate)?;
    let builder = if plan.client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = Arc::new(authorities(&plan.client_ca)?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated().build()?;
        builder.with_client_cert_verifier(clients)
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified(chain, key)?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), hash))
}

/// Certificates and key, which have to go together. rustls would compare them too, but not for certificates of version 1,
/// which `openssl x509 -req` makes and clients may not look into.
fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    let own = chain.first().ok_or(TlsError::Certificate(rustls::Error::NoCertificatesPresented))?;
    let key = provider().key_provider.load_private_key(key).map_err(TlsError::Certificate)?;
    let shown = certificate::public_key(own).ok_or(TlsError::Certificate(CertificateError::BadEncoding.into()))?;
    if key.public_key().is_some_and(|held| held.as_ref() != shown) {
        return Err(TlsError::Certificate(rustls::InconsistentKeys::KeyMismatch.into()));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// TLS towards servers. With [`ServerTlsMode::Disable`] nothing is verified, and nobody has a use for it.
///
/// # Errors
///
/// If an authority cannot be read, or none is known where one is needed.
pub fn connect_config(plan: &ServerTlsPlan) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = match plan.mode {
        ServerTlsMode::Disable | ServerTlsMode::Prefer | ServerTlsMode::Require => verify::Servers::any(),
        ServerTlsMode::VerifyCa => verify::Servers::of_authority(roots(plan)?, plan.ca.clone(), false)?,
        ServerTlsMode::VerifyFull => verify::Servers::of_authority(roots(plan)?, plan.ca.clone(), true)?,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Certificate)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The name that a server's certificate is checked for, and that is sent as SNI if it is a DNS name. Brackets around an
/// address are taken off.
///
/// # Errors
///
/// If it is neither a DNS name nor an address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

fn roots(plan: &ServerTlsPlan) -> Result<RootCertStore, TlsError> {
    if !plan.ca.is_empty() {
        return authorities(&plan.ca);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoAuthority) } else { Ok(roots) }
}

fn authorities(ca: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (at, der) in ca.iter().enumerate() {
        roots
            .add(CertificateDer::from(der.clone()))
            .map_err(|source| TlsError::Authority { number: at + 1, source })?;
    }
    Ok(roots)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
