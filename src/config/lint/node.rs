//! Lints on `[admin]`, `[api]`, `[token.NAME]` and `[deploys]`.

use kernel::{Rule, Severity};

use super::Lint;
use crate::config::model::Scope;
use crate::path;

pub(super) const LINTS: &[Lint] = &[ADMIN_EXPOSED, API_WITHOUT_TOKEN, SCOPE_UNUSED, DEPLOYS_WITHOUT_API, SAME_TOKEN];

const ADMIN_EXPOSED: Lint = Lint {
    rule: Rule {
        id: "admin-exposed",
        severity: Severity::Error,
        title: "The console is open to the network and nobody could use it",
        what: "`listen` of `[admin]` is not a loopback address, and no token has the scope `operator`.",
        why: "Beyond loopback the console and the operator API demand a token, for whoever reaches them could \
              otherwise steer the node. Without one, every request would be refused.",
        remedy: "Let the console listen on `127.0.0.1` and reach it through SSH, or make a token with `evenkeel \
                 token new NAME --scope operator` and put the stanza that it prints into the file.",
        example: "[admin]\nlisten = \"10.0.0.7:7070\"\n[token.ops]\n\
                  hash = \"${file:/etc/evenkeel/ops-token-hash}\"\nscopes = [\"operator\"]",
    },
    check: |context, rule| {
        let config = context.config;
        let operator = config.token.values().any(|token| token.scopes.contains(&Scope::Operator));
        let address = config.admin.listen.addr();
        if !address.ip().is_loopback() && !operator && !context.is_damaged(&path!["token"]) {
            let message =
                format!("the console listens on {address}, beyond this machine, and no token has the scope `operator`");
            let remedy = format!(
                "listen on `127.0.0.1:{}`, or add the stanza that `evenkeel token new ops --scope operator` prints",
                address.port()
            );
            context.say(rule, &path!["admin", "listen"], message, remedy);
        }
    },
};

const API_WITHOUT_TOKEN: Lint = Lint {
    rule: Rule {
        id: "api-without-token",
        severity: Severity::Warning,
        title: "The API can be called by nobody",
        what: "There is an `[api]`, and no token has a scope that it serves (`services:read`, `deploys:write`, \
               `register:SERVICE`), nor is there a `[deploys]`.",
        why: "Every call is refused.",
        remedy: "Make a token with `evenkeel token new NAME --scope services:read`, or take `[api]` out.",
        example: "[api]\nlisten = \"127.0.0.1:7071\"\n[token.dashboard]\n\
                  hash = \"${file:/etc/evenkeel/dashboard-token-hash}\"\nscopes = [\"services:read\"]",
    },
    check: |context, rule| {
        let served = context.config.token.values().any(|t| t.scopes.iter().any(Scope::is_for_api));
        if context.config.api.is_some() && context.config.deploys.is_none() && !served {
            let remedy = "add the stanza that `evenkeel token new NAME --scope services:read` prints";
            context.say(rule, &path!["api"], "no token has a scope for the API, so every call is refused", remedy);
        }
    },
};

const SCOPE_UNUSED: Lint = Lint {
    rule: Rule {
        id: "scope-without-api",
        severity: Severity::Note,
        title: "A token opens something that is not served",
        what: "A token has the scope `services:read`, `deploys:write` or `register:SERVICE`, and there is no `[api]`.",
        why: "The API is the only place where the scope counts, so the token opens nothing by it.",
        remedy: "Add `[api]`, or take the scope out.",
        example: "[api]\nlisten = \"127.0.0.1:7071\"",
    },
    check: |context, rule| {
        if context.config.api.is_some() {
            return;
        }
        for (name, token) in &context.config.token {
            if let Some(i) = token.scopes.iter().position(Scope::is_for_api) {
                let message = format!("`{}` of the token `{name}` is for `[api]`, which is not there", token.scopes[i]);
                let at = path!["token", name.as_str(), "scopes", i];
                context.say(rule, &at, message, "add `[api]` with a `listen`, or take the scope out");
            }
        }
    },
};

const DEPLOYS_WITHOUT_API: Lint = Lint {
    rule: Rule {
        id: "deploys-without-api",
        severity: Severity::Warning,
        title: "Webhooks are to tell of deployments where nothing is served",
        what: "There is a `[deploys]`, and no `[api]`.",
        why: "Webhooks are taken at `POST /v1/deploys` of `[api]` alone, so none is heard.",
        remedy: "Add `[api]`, or take `[deploys]` out.",
        example: "[api]\nlisten = \"127.0.0.1:7071\"\n[deploys]\ngithub_secret = \"${file:/etc/evenkeel/github-secret}\"",
    },
    check: |context, rule| {
        if context.config.deploys.is_some() && context.config.api.is_none() {
            let message = "`[deploys]` is for webhooks that come in at `[api]`, which is not there";
            context.say(rule, &path!["deploys"], message, "add `[api]` with a `listen`, or take `[deploys]` out");
        }
    },
};

const SAME_TOKEN: Lint = Lint {
    rule: Rule {
        id: "same-token",
        severity: Severity::Warning,
        title: "Two tokens are the same",
        what: "Two `[token.NAME]` have the same hash.",
        why: "Logs cannot tell who called, and taking one name out does not take the token out.",
        remedy: "Make a token for each caller with `evenkeel token new`.",
        example: "[token.deploy]\nhash = \"${env:DEPLOY_TOKEN_HASH}\"\nscopes = [\"operator\"]",
    },
    check: |context, rule| {
        let tokens: Vec<_> = context.config.token.iter().collect();
        for (i, (name, token)) in tokens.iter().enumerate() {
            if let Some((other, _)) = tokens[..i].iter().find(|(_, other)| other.hash == token.hash) {
                let message = format!("the tokens `{other}` and `{name}` are the same");
                let at = path!["token", name.as_str(), "hash"];
                context.say(rule, &at, message, "make one for each caller with `evenkeel token new`");
            }
        }
    },
};
