//! What is read out of certificates: the hash that channels are bound to, and names.

use rustls::crypto::hash::HashAlgorithm;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// `tls-server-end-point` of a certificate (RFC 5929, section 4.1): its hash by the algorithm of its signature, SHA-256 in
/// place of MD5 and SHA-1. `None` where the signature has no hash of its own (Ed25519), for which there is no binding, and
/// for what is no certificate.
pub fn end_point_hash(der: &[u8]) -> Option<Vec<u8>> {
    Some(match signature_hash(&parse(der)?)? {
        HashAlgorithm::SHA384 => Sha384::digest(der).to_vec(),
        HashAlgorithm::SHA512 => Sha512::digest(der).to_vec(),
        HashAlgorithm::SHA224 => Sha224::digest(der).to_vec(),
        _ => Sha256::digest(der).to_vec(),
    })
}

/// The common name of a certificate's subject; `None` if there is none, or more than one: it would not be clear who it is
/// for.
pub fn common_name(der: &[u8]) -> Option<String> {
    let certificate = parse(der)?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok().filter(|name| !name.is_empty() && !name.contains('\0'))?;
    names.next().is_none().then(|| name.to_owned())
}

/// The public key of a certificate, as it stands in it.
pub(super) fn public_key(der: &[u8]) -> Option<&[u8]> {
    Some(parse(der)?.tbs_certificate.subject_pki.raw)
}

/// Whether a time, in seconds since 1970, is in a certificate's.
pub(super) fn is_valid_at(der: &[u8], seconds: u64) -> bool {
    let at = i64::try_from(seconds).ok().and_then(|s| x509_parser::time::ASN1Time::from_timestamp(s).ok());
    parse(der).zip(at).is_some_and(|(certificate, at)| certificate.validity().is_valid_at(at))
}

/// Whether a certificate without any alternative name is for `host` by its common name, as libpq has it; a wildcard stands for
/// one whole label, the first.
pub(super) fn is_for_by_common_name(der: &[u8], host: &str) -> bool {
    let has_other_names = parse(der).is_none_or(|certificate| {
        certificate.subject_alternative_name().is_err()
            || certificate.subject_alternative_name().ok().flatten().is_some_and(|names| {
                names
                    .value
                    .general_names
                    .iter()
                    .any(|n| matches!(n, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
            })
    });
    if has_other_names {
        return false;
    }
    let Some(name) = common_name(der) else { return false };
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| {
            !label.is_empty() && parent.contains('.') && rest.eq_ignore_ascii_case(parent)
        }),
        None => name.eq_ignore_ascii_case(host),
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// Which hash a certificate's signature is made with; `None`: none, or one that is not known.
fn signature_hash(certificate: &X509Certificate<'_>) -> Option<HashAlgorithm> {
    let by_oid = |oid: &x509_parser::der_parser::Oid<'_>| {
        let known = [
            // PKCS#1: md5, sha1, sha256, sha384, sha512, sha224.
            (oid!(1.2.840.113549.1.1.4), HashAlgorithm::MD5),
            (oid!(1.2.840.113549.1.1.5), HashAlgorithm::SHA1),
            (oid!(1.2.840.113549.1.1.11), HashAlgorithm::SHA256),
            (oid!(1.2.840.113549.1.1.12), HashAlgorithm::SHA384),
            (oid!(1.2.840.113549.1.1.13), HashAlgorithm::SHA512),
            (oid!(1.2.840.113549.1.1.14), HashAlgorithm::SHA224),
            // ECDSA: sha1, sha224, sha256, sha384, sha512.
            (oid!(1.2.840.10045.4.1), HashAlgorithm::SHA1),
            (oid!(1.2.840.10045.4.3.1), HashAlgorithm::SHA224),
            (oid!(1.2.840.10045.4.3.2), HashAlgorithm::SHA256),
            (oid!(1.2.840.10045.4.3.3), HashAlgorithm::SHA384),
            (oid!(1.2.840.10045.4.3.4), HashAlgorithm::SHA512),
            // Hashes by themselves, as parameters of RSASSA-PSS name them.
            (oid!(1.3.14.3.2.26), HashAlgorithm::SHA1),
            (oid!(2.16.840.1.101.3.4.2.1), HashAlgorithm::SHA256),
            (oid!(2.16.840.1.101.3.4.2.2), HashAlgorithm::SHA384),
            (oid!(2.16.840.1.101.3.4.2.3), HashAlgorithm::SHA512),
            (oid!(2.16.840.1.101.3.4.2.4), HashAlgorithm::SHA224),
        ];
        known.into_iter().find(|(name, _)| name == oid).map(|(_, hash)| hash)
    };
    match SignatureAlgorithm::try_from(&certificate.signature_algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => by_oid(parameters.hash_algorithm_oid()),
        _ => by_oid(&certificate.signature_algorithm.algorithm),
    }
}
