//! Who somebody is: what is known of a user ([`Verifier`]), what is shown to a server for one ([`Secret`]), and the
//! exchanges by which the first is checked and the second is proven. Pure but for nonces and made-up salts, which come
//! from the operating system; [`crate::login`] wraps the exchanges into messages.
//!
//! A verifier is read as PostgreSQL keeps it in `pg_authid.rolpassword`: SCRAM-SHA-256 (RFC 5802, RFC 7677), md5, or a
//! password in clear as a file of users may have it. A client that proves itself by SCRAM shows the pooler its
//! `ClientKey`, which is enough to log in to a server that has the same verifier: no password has to be known.
//!
//! Secrets are not shown by `Debug` and compared in constant time. Absent on purpose: GSSAPI, LDAP, PAM, OAuth.

pub(crate) mod keys;
pub(crate) mod md5;
pub mod peer;
pub mod scram;
pub mod users;

use std::fmt;

use subtle::ConstantTimeEq as _;

pub use peer::peer_user;
pub use scram::ScramVerifier;
pub use users::users_file;

/// What is known of a user, and what a client's proof is checked with.
#[derive(Clone)]
pub enum Verifier {
    /// `SCRAM-SHA-256$…`: what PostgreSQL keeps by default.
    Scram(ScramVerifier),
    /// `md5…`: the digest of password and user in lower-case hex.
    Md5([u8; 32]),
    /// The password itself. Clients are asked for SCRAM.
    Plain(String),
    /// No password, or a verifier that nobody can match: every password is wrong.
    None,
}

/// What shows a server that we may log in as a user.
#[derive(Clone)]
pub enum Secret {
    /// The password: good for every method and for every salt.
    Password(String),
    /// What a client's proof revealed: good for SCRAM with a server that has the same verifier.
    Scram {
        /// `ClientKey` of RFC 5802.
        client_key: [u8; 32],
        /// `ServerKey` of RFC 5802, by which the server shows that it has the verifier.
        server_key: [u8; 32],
    },
    /// The md5 digest of password and user, in hex: good for md5.
    Md5([u8; 32]),
    /// Nothing is known: good for servers that ask for nothing.
    None,
}

impl Verifier {
    /// Reads what PostgreSQL keeps, or what a file of users has: whatever is not a verifier is a password. A text that
    /// claims to be SCRAM and cannot be read is [`Verifier::None`]: it must never be taken for a password.
    pub fn parse(text: &str) -> Verifier {
        if text.is_empty() {
            Verifier::None
        } else if text.starts_with(scram::VERIFIER_PREFIX) {
            ScramVerifier::parse(text).map_or(Verifier::None, Verifier::Scram)
        } else {
            md5::read_verifier(text).map_or_else(|| Verifier::Plain(text.to_owned()), Verifier::Md5)
        }
    }

    /// What can be shown to a server without the client's help: for clients that were vouched for by something else than
    /// a password.
    pub fn secret(&self) -> Secret {
        match self {
            Verifier::Plain(password) => Secret::Password(password.clone()),
            Verifier::Md5(digest) => Secret::Md5(*digest),
            Verifier::Scram(_) | Verifier::None => Secret::None,
        }
    }
}

impl Secret {
    /// Whether nothing is known.
    pub fn is_none(&self) -> bool {
        matches!(self, Secret::None)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        match (self, other) {
            (Secret::Password(a), Secret::Password(b)) => a.as_bytes().ct_eq(b.as_bytes()).into(),
            (Secret::Scram { client_key: a, server_key: x }, Secret::Scram { client_key: b, server_key: y }) => {
                (a.ct_eq(b) & x.ct_eq(y)).into()
            }
            (Secret::Md5(a), Secret::Md5(b)) => a.ct_eq(b).into(),
            (Secret::None, Secret::None) => true,
            _ => false,
        }
    }
}

impl Eq for Secret {}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verifier::Scram(_) => "Verifier::Scram(..)",
            Verifier::Md5(_) => "Verifier::Md5(..)",
            Verifier::Plain(_) => "Verifier::Plain(..)",
            Verifier::None => "Verifier::None",
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Password(_) => "Secret::Password(..)",
            Secret::Scram { .. } => "Secret::Scram(..)",
            Secret::Md5(_) => "Secret::Md5(..)",
            Secret::None => "Secret::None",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_read_as_postgres_keeps_it() {
        let scram = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(matches!(Verifier::parse(scram), Verifier::Scram(ScramVerifier { iterations: 4096, .. })));
        assert!(matches!(Verifier::parse("md53175bce1d3201d16594cebf9d7eb3f9d"), Verifier::Md5(_)));
        assert!(matches!(Verifier::parse("md5 but no digest"), Verifier::Plain(_)));
        assert!(matches!(Verifier::parse("secret"), Verifier::Plain(_)));
        assert!(matches!(Verifier::parse(""), Verifier::None));
    }

    #[test]
    fn a_broken_scram_verifier_is_never_a_password() {
        for broken in ["SCRAM-SHA-256$", "SCRAM-SHA-256$4096:c2FsdA==$", "SCRAM-SHA-256$0:c2FsdA==$AA==:AA=="] {
            assert!(matches!(Verifier::parse(broken), Verifier::None), "{broken}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            Verifier::parse("hunter2"),
            Secret::Password("hunter2".into()),
            Secret::Scram { client_key: [7; 32], server_key: [9; 32] },
            Secret::Md5([b'7'; 32]),
        );
        for leaked in ["hunter2", "7", "9", "55"] {
            assert!(!shown.replace("Md5", "").contains(leaked), "{shown}");
        }
    }

    #[test]
    fn secrets_are_the_same_if_all_of_them_is() {
        let scram = |a, b| Secret::Scram { client_key: [a; 32], server_key: [b; 32] };
        assert_eq!(scram(1, 2), scram(1, 2));
        assert_ne!(scram(1, 2), scram(1, 3));
        assert_ne!(scram(1, 2), scram(2, 2));
        assert_ne!(Secret::Password("a".into()), Secret::Password("ab".into()));
        assert_ne!(Secret::Password("a".into()), Secret::None);
    }
}
