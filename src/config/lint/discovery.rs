//! Lints on endpoints that register themselves.

use kernel::{Rule, Severity};

use super::Lint;
use crate::config::model::Scope;
use crate::path;

pub(super) const LINTS: &[Lint] = &[REGISTER_WITHOUT_API, SCOPE_WITHOUT_REGISTER];

const REGISTER_WITHOUT_API: Lint = Lint {
    rule: Rule {
        id: "register-without-api",
        severity: Severity::Warning,
        title: "Endpoints may register, and none can",
        what: "A service has `register`, and there is no `[api]`, or no token with the scope `register:` and the \
               service's name.",
        why: "Endpoints register through `[api]` and with such a token, so none ever will.",
        remedy: "Add `[api]`, and the stanza that `evenkeel token new NAME --scope register:SERVICE` prints; or take \
                 `register` out.",
        example: "[api]\nlisten = \"10.0.0.5:7071\"\n[token.shop]\n\
                  hash = \"${file:/etc/evenkeel/shop-token-hash}\"\nscopes = [\"register:shop\"]\n\
                  [service.shop]\nregister = {}",
    },
    check: |context, rule| {
        let config = context.config;
        for (name, _) in config.service.iter().filter(|(_, service)| service.register.is_some()) {
            let mut scopes = config.token.values().flat_map(|token| &token.scopes);
            let lacks = match (&config.api, scopes.any(|scope| scope.registers(name))) {
                (None, _) => "there is no `[api]`",
                (_, false) => "no token has the scope for it",
                _ => continue,
            };
            let message = format!("endpoints of `{name}` may register, but {lacks}");
            let remedy = format!(
                "add `[api]` and the stanza that `evenkeel token new {name} --scope register:{name}` prints, or take \
                 `register` out"
            );
            context.say(rule, &path!["service", name.as_str(), "register"], message, remedy);
        }
    },
};

const SCOPE_WITHOUT_REGISTER: Lint = Lint {
    rule: Rule {
        id: "scope-without-register",
        severity: Severity::Warning,
        title: "A token is for endpoints that may not register",
        what: "A token has the scope `register:SERVICE`, and there is no service of that name that has `register`.",
        why: "Every registration with the token is refused. Often the name of the service is misspelt.",
        remedy: "Correct the name, add `register = {}` to the service, or take the scope out.",
        example: "[api]\nlisten = \"10.0.0.5:7071\"\n[token.shop]\n\
                  hash = \"${file:/etc/evenkeel/shop-token-hash}\"\nscopes = [\"register:shop\"]\n\
                  [service.shop]\nregister = { max_lease = \"30s\" }",
    },
    check: |context, rule| {
        let services = &context.config.service;
        for (name, token) in &context.config.token {
            for (i, scope) in token.scopes.iter().enumerate() {
                let Scope::Register(Some(service)) = scope else { continue };
                let why = match services.get(service) {
                    Some(service) if service.register.is_some() => continue,
                    Some(_) => "has no `register`",
                    None => "is not a service",
                };
                let message = format!("the token `{name}` is for endpoints of `{service}`, which {why}");
                let at = path!["token", name.as_str(), "scopes", i];
                let remedy = format!("correct the name, or add `register = {{}}` to `[service.{service}]`");
                context.say(rule, &at, message, remedy);
            }
        }
    },
};
