//! Who comes in, and how: addresses, the pooler's own user, files of users, TLS on both sides.

use super::{Group, Import, SOCKETS, array, list, quoted};

/// Where the password of the pooler's own user is said to be.
pub(super) const PASSWORD_FILE: &str = "/etc/evenkeel/pg";

/// What PgBouncer asks for a user unless told otherwise.
const AUTH_QUERY: &str = "SELECT usename, passwd FROM pg_shadow WHERE usename=$1";

impl Import<'_> {
    pub(super) fn listen(&mut self) -> Result<String, Vec<String>> {
        let port = self.ini.get("listen_port").unwrap_or("6432");
        let Some(number) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
            return Err(vec![format!("`listen_port = {port}` is no port")]);
        };
        let mut addresses = Vec::new();
        for host in list(self.ini.get("listen_addr").unwrap_or_default()) {
            match host.as_str() {
                "*" => {
                    self.todo.push("`listen_addr = *` listens on every IPv4 address; add `[::]` for IPv6".to_owned());
                    addresses.push(format!("0.0.0.0:{number}"));
                }
                "localhost" => addresses.push(format!("127.0.0.1:{number}")),
                host => match host.parse::<std::net::IpAddr>() {
                    Ok(ip) => addresses.push(std::net::SocketAddr::new(ip, number).to_string()),
                    Err(_) => {
                        self.todo.push(format!("`listen_addr` has the name {host}: add the address that it stands for"))
                    }
                },
            }
        }
        if let Some(directory) = self.ini.get("unix_socket_dir").filter(|directory| directory.starts_with('/')) {
            let name =
                if addresses.is_empty() && number != 6432 { format!("/.s.PGSQL.{number}") } else { String::new() };
            addresses.push(format!("unix:{}{name}", directory.trim_end_matches('/')));
        }
        if addresses.is_empty() {
            addresses.push(format!("unix:{SOCKETS}/.s.PGSQL.{number}"));
        }
        Ok(if addresses.len() == 1 { quoted(&addresses[0]) } else { array(&addresses) })
    }

    pub(super) fn auth(&mut self, groups: &[Group<'_>]) -> String {
        let databases = || groups.iter().flat_map(|group| &group.databases);
        let own = databases().find_map(|database| database.get("auth_user"));
        let user = self.ini.get("auth_user").filter(|user| !user.is_empty()).or(own);
        let mut parts = Vec::new();
        match user {
            Some(user) => {
                self.todo.push(format!(
                    "put the password of `{user}` into {PASSWORD_FILE}, readable to Evenkeel's user alone"
                ));
                parts.push(format!("user = {}", quoted(user)));
            }
            None => {
                self.todo.push(format!(
                    "make a user `evenkeel` in Postgres, which is asked for roles, and put its password into {PASSWORD_FILE}; \
                     `evenkeel check` prints the function for users that are in no file"
                ));
                parts.push("user = \"evenkeel\"".to_owned());
            }
        }
        parts.push(format!("password = \"${{file:{PASSWORD_FILE}}}\""));
        let database =
            self.ini.get("auth_dbname").or_else(|| databases().find_map(|database| database.get("auth_dbname")));
        parts.extend(database.map(|database| format!("database = {}", quoted(database))));
        let query = self.ini.get("auth_query").or_else(|| databases().find_map(|database| database.get("auth_query")));
        if let Some(query) = query.or(user.map(|_| AUTH_QUERY)) {
            parts.push(format!("query = {}", quoted(query)));
        }
        match self.ini.get("auth_type") {
            Some("cert") => parts.push("certificate = true".to_owned()),
            Some(kind @ ("trust" | "any")) => self.without.push(format!(
                "auth_type = {kind}: everybody shows a password, or a certificate, or is the user of the operating system (`peer`)"
            )),
            Some(kind @ ("hba" | "pam" | "ldap")) => {
                self.without.push(format!("auth_type = {kind}: passwords are checked with what Postgres has stored"));
            }
            Some(kind) => self.needless.push(format!("auth_type = {kind}: SCRAM or md5 follows from what Postgres has stored")),
            None => {}
        }
        format!("auth = {{ {} }}", parts.join(", "))
    }

    pub(super) fn auth_file(&mut self) -> Result<Option<String>, Vec<String>> {
        if let Some((path, text)) = self.users {
            let users = pool::auth::users_file(text).map_err(|error| vec![format!("{path}: {error}")])?;
            let scram = users.iter().filter(|(_, verifier)| verifier.starts_with("SCRAM-SHA-256$")).count();
            if scram < users.len() {
                self.todo.push(format!(
                    "{} of the {} users in {path} have no SCRAM verifier: `evenkeel explain weak-verifiers` says what to do",
                    users.len() - scram,
                    users.len()
                ));
            }
        }
        let path =
            self.users.map(|(path, _)| path).or_else(|| self.ini.get("auth_file").filter(|path| !path.is_empty()));
        Ok(path.map(|path| format!("auth_file = {}", quoted(path))))
    }

    pub(super) fn mode(&mut self, key: &str, value: Option<&str>) -> Option<String> {
        match value? {
            mode @ ("session" | "transaction" | "statement") => Some(format!("mode = \"{mode}\"")),
            other => {
                self.without.push(format!("{key} = {other}: this is no mode"));
                None
            }
        }
    }

    pub(super) fn tls(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mode = self.ini.get("client_tls_sslmode").unwrap_or("disable");
        match (mode, self.ini.get("client_tls_cert_file"), self.ini.get("client_tls_key_file")) {
            ("disable", ..) => {}
            (_, Some(certificate), Some(key)) => {
                let mut parts =
                    vec![format!("certificate = {}", quoted(certificate)), format!("key = {}", quoted(key))];
                if matches!(mode, "require" | "verify-ca" | "verify-full") {
                    parts.push("required = true".to_owned());
                }
                parts.extend(self.ini.get("client_tls_ca_file").map(|ca| format!("client_ca = {}", quoted(ca))));
                lines.push(format!("tls = {{ {} }}", parts.join(", ")));
            }
            _ => {
                self.todo.push(format!("client_tls_sslmode = {mode} without certificate and key: add `tls` with both"))
            }
        }
        let mode = self.ini.get("server_tls_sslmode").unwrap_or("prefer");
        let mode = match mode {
            "allow" => "prefer",
            mode @ ("disable" | "prefer" | "require" | "verify-ca" | "verify-full") => mode,
            other => {
                self.without.push(format!("server_tls_sslmode = {other}: this is no mode of TLS"));
                "prefer"
            }
        };
        let ca = self.ini.get("server_tls_ca_file").map(|ca| format!(", ca = {}", quoted(ca))).unwrap_or_default();
        if mode != "prefer" || !ca.is_empty() {
            lines.push(format!("server_tls = {{ mode = \"{mode}\"{ca} }}"));
        }
        lines
    }
}
