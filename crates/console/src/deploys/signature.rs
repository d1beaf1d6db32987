//! The signature of a webhook of GitHub: HMAC-SHA-256 (RFC 2104) of the body under a secret that both sides know, as
//! `X-Hub-Signature-256: sha256=` and 64 hexadecimal digits. It is compared in constant time. A signature says nothing of
//! when it was made: a delivery that is sent again is known by its key.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha256;

/// The header that carries it.
pub(crate) const HEADER: &str = "x-hub-signature-256";

/// A secret that a sender of webhooks signs with. It is in no message and no log.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Arc<str>);

impl WebhookSecret {
    /// The secret with this text.
    pub fn new(text: &str) -> WebhookSecret {
        WebhookSecret(text.into())
    }

    /// Whether the headers carry its signature of `body`.
    pub(crate) fn has_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let mut lines = headers.get_all(HEADER).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return false };
        let Some(signature) = line.to_str().ok().and_then(|text| text.strip_prefix("sha256=")).and_then(bytes) else {
            return false;
        };
        // A key of any length is taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else { return false };
        mac.update(body);
        mac.verify_slice(&signature).is_ok()
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

/// 64 hexadecimal digits as bytes.
fn bytes(hex: &str) -> Option<[u8; 32]> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_by_its_signature() {
        // RFC 4231, test case 2.
        let secret = WebhookSecret::new("Jefe");
        let body = b"what do ya want for nothing?";
        let right = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let with = |value: &str| HeaderMap::from_iter([(HEADER.parse().unwrap(), value.parse().unwrap())]);
        assert!(secret.has_signed(&with(right), body));
        assert!(secret.has_signed(&with(&right.to_uppercase().replace("SHA", "sha")), body));
        assert!(!secret.has_signed(&with(right), b"what do you want for nothing?"));
        assert!(!WebhookSecret::new("Jeff").has_signed(&with(right), body));
        for bad in ["", "sha256=", &right[7..], &right[..70], &format!("{right}0"), &right.replace('b', "g"), "sha1=00"]
        {
            assert!(!secret.has_signed(&with(bad), body), "{bad}");
        }
        let mut twice = with(right);
        twice.append(HEADER, right.parse().unwrap());
        assert!(!secret.has_signed(&twice, body) && !secret.has_signed(&HeaderMap::new(), body));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(..)");
    }
}
