//! What went wrong with TLS, for people who have to put it right.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Says what an error of a [`super::TlsStream`], or of a handshake elsewhere, means and what to look at.
pub fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => of_tls(inner),
        None => error.to_string(),
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => {
                "the other side's certificate is not signed by a known authority: look at `ca`".to_owned()
            }
            CertificateError::BadSignature => {
                "the other side's certificate is not signed by the authority that it names: look at `ca`".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the other side's certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the other side's certificate is not valid yet: look at the clocks".to_owned()
            }
            other => format!("the other side's certificate: {other}"),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError => format!("the other side does not accept our certificate ({alert:?})"),
            AlertDescription::CertificateRequired => "the other side wants a certificate from us".to_owned(),
            AlertDescription::NoApplicationProtocol => "the other side does not speak PostgreSQL there".to_owned(),
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
                format!("the other side has no version or cipher in common with us ({alert:?})")
            }
            other => format!("the other side ended TLS: {other:?}"),
        },
        Error::InvalidMessage(_) => "what the other side sends is not TLS".to_owned(),
        Error::PeerIncompatible(why) => format!("the other side has no version or cipher in common with us ({why:?})"),
        Error::NoApplicationProtocol => "the other side offers other protocols than PostgreSQL".to_owned(),
        other => other.to_string(),
    }
}
