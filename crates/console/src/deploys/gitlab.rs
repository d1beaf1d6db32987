//! Deployments as webhooks of GitLab tell them (`Deployment Hook`): `running` is told as `started`, `success` as
//! `succeeded`, `failed` and `canceled` as they are; `created`, `blocked` and others are no change of what runs.
//!
//! The key is number of the deployment, what it is told as, and the path of the project.

use serde::Deserialize;

use super::{DeployMark, Heard, MAX_NAME_BYTES, Problem, line, link, not_understood, version};

#[derive(Debug, Deserialize)]
struct Event {
    status: String,
    deployment_id: u64,
    deployable_url: Option<String>,
    environment: Option<String>,
    environment_external_url: Option<String>,
    project: Project,
    #[serde(rename = "ref")]
    reference: Option<String>,
    short_sha: Option<String>,
    user: Option<User>,
    commit_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Project {
    name: String,
    path_with_namespace: Option<String>,
    web_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct User {
    username: Option<String>,
    name: Option<String>,
}

/// What an event of this name means.
pub(super) fn hear(event: &str, body: &[u8]) -> Result<Heard, Problem> {
    if event != "Deployment Hook" {
        let event = line(event, 60);
        return Ok(Heard::Nothing(format!("{event} tells of no deployment; choose the trigger deployment events")));
    }
    let told: Event =
        serde_json::from_slice(body).map_err(|error| not_understood("GitLab's deployment events", &error))?;
    let status = match told.status.as_str() {
        "running" => "started",
        "success" => "succeeded",
        "failed" => "failed",
        "canceled" => "canceled",
        other => return Ok(Heard::Nothing(format!("{} is no change of what runs", line(other, 60)))),
    };
    Ok(Heard::Mark(told.mark(status)))
}

impl Event {
    fn mark(&self, status: &str) -> DeployMark {
        let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
        let user = self.user.as_ref();
        let actor = user.and_then(|user| text(&user.username).or_else(|| text(&user.name)));
        let path = text(&self.project.path_with_namespace).unwrap_or_else(|| self.project.name.clone());
        // The last part of a path is plain, where the name may be anything that people like to read.
        let repository = path.rsplit('/').next().unwrap_or_default();
        DeployMark {
            service: line(repository, MAX_NAME_BYTES),
            version: version(
                self.reference.as_deref().unwrap_or_default(),
                self.short_sha.as_deref().unwrap_or_default(),
            ),
            environment: line(self.environment.as_deref().unwrap_or(super::PRODUCTION), MAX_NAME_BYTES),
            status: status.to_owned(),
            actor: line(actor.as_deref().unwrap_or("gitlab"), MAX_NAME_BYTES),
            url: link([
                self.deployable_url.as_deref(),
                self.environment_external_url.as_deref(),
                self.commit_url.as_deref(),
                self.project.web_url.as_deref(),
            ]),
            source: "gitlab".to_owned(),
            key: line(&format!("{}:{status}:{path}", self.deployment_id), MAX_NAME_BYTES),
        }
    }
}
