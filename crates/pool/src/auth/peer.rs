//! Who is at the other end of a Unix socket, by `SO_PEERCRED` and `/etc/passwd`.
//!
//! The kernel names the user that called `connect`; the name is looked up in `/etc/passwd` itself. Users that come from
//! elsewhere (LDAP, `systemd-homed`, other sources of `nsswitch.conf`) are not seen: asking for those needs the C
//! library's lookups, which cannot be called without unsafe code.

use std::io;
use std::os::fd::AsFd;

/// Most of `/etc/passwd` that is read.
const MOST_PASSWD: u64 = 4 << 20;

/// The name of the operating system's user at the other end.
///
/// # Errors
///
/// If the socket has no peer of that kind, or the user has no entry in `/etc/passwd`.
pub fn peer_user(socket: impl AsFd) -> io::Result<String> {
    let uid = rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw();
    let passwd = read_passwd()?;
    name_of(&passwd, uid).map(str::to_owned).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("the client's user id {uid} has no name in /etc/passwd"))
    })
}

fn read_passwd() -> io::Result<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open("/etc/passwd")?.take(MOST_PASSWD).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first entry of a user id, as `getpwuid` has it.
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id = fields.nth(1)?;
        (id.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_of_an_id_counts() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# no:x:7:7\nbroken\n:x:8:8::/:\nada:x:7:7::/:\nbob:x:7:7::/:\n";
        assert_eq!(name_of(passwd, 0), Some("root"));
        assert_eq!(name_of(passwd, 7), Some("ada"));
        assert_eq!(name_of(passwd, 8), None);
        assert_eq!(name_of(passwd, 9), None);
    }

    #[test]
    fn the_peer_of_a_pair_is_who_runs_this() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let passwd = read_passwd().unwrap();
        let own = rustix::process::getuid().as_raw();
        assert_eq!(peer_user(&ours).ok().as_deref(), name_of(&passwd, own));
    }
}
