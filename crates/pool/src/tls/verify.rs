//! Whether a server's certificate will do: libpq's `sslmode`, as a verifier of rustls.
//!
//! | mode | chain | name | signature of the handshake |
//! | --- | --- | --- | --- |
//! | prefer, require | not looked at | not looked at | checked |
//! | verify-ca | to an authority | not looked at | checked |
//! | verify-full | to an authority | the server's name | checked |
//!
//! The signature is always checked: channel binding relies on the server having the key of its certificate. In two points it
//! follows libpq where webpki is stricter, since certificates made as PostgreSQL's manual shows have both: a certificate that
//! is itself listed among the authorities is accepted as it is while it is valid (a self-signed one), and a certificate
//! without alternative names is for its common name.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{TlsError, certificate, provider};

/// Which servers will do.
#[derive(Debug)]
pub struct Servers {
    provider: Arc<CryptoProvider>,
    authority: Option<Authority>,
}

#[derive(Debug)]
struct Authority {
    chain: Arc<WebPkiServerVerifier>,
    /// Authorities that may be the server's certificate itself.
    listed: Vec<Vec<u8>>,
    checks_name: bool,
}

impl Servers {
    /// Any certificate whose key the server has.
    pub fn any() -> Servers {
        Servers { provider: provider(), authority: None }
    }

    /// Certificates of these authorities; `listed` are those that were configured, in DER.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn of_authority(roots: RootCertStore, listed: Vec<Vec<u8>>, checks_name: bool) -> Result<Servers, TlsError> {
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Ok(Servers { provider: provider(), authority: Some(Authority { chain, listed, checks_name }) })
    }
}

impl Authority {
    fn verify(
        &self,
        server: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let is_listed = self.listed.iter().any(|der| der.as_slice() == server.as_ref());
        let verdict = if is_listed {
            if !certificate::is_valid_at(server, now.as_secs()) {
                return Err(CertificateError::Expired.into());
            }
            ParsedCertificate::try_from(server).and_then(|parsed| rustls::client::verify_server_name(&parsed, name))
        } else {
            self.chain.verify_server_cert(server, between, name, ocsp, now).map(drop)
        };
        match verdict {
            // The name is the last thing that is looked at: all else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name || is_for_by_common_name(server, name) => Ok(()),
            // A listed certificate that cannot be read any further is still the one that was listed.
            Err(_) if is_listed && !self.checks_name => Ok(()),
            other => other,
        }
    }
}

fn is_for_by_common_name(server: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    matches!(name, ServerName::DnsName(dns) if certificate::is_for_by_common_name(server, dns.as_ref()))
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authority) = &self.authority {
            authority.verify(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    /// By the key alone, so that certificates of version 1 will do where nothing else is looked at.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = certificate::public_key(cert).ok_or(CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(key);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
