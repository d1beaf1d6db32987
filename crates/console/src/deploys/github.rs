//! Deployments as webhooks of GitHub tell them. A deployment is created once (`deployment`), and then has statuses
//! (`deployment_status`), of which three are a change of what runs:
//!
//! | event | state | told as |
//! | --- | --- | --- |
//! | `deployment` | | `requested` |
//! | `deployment_status` | `in_progress` | `started` |
//! | | `success` | `succeeded` |
//! | | `failure`, `error` | `failed` |
//! | | `queued`, `pending`, `waiting`, `inactive` | not at all |
//! | `ping` | | answered |
//!
//! The key is repository, number of the deployment and what it is told as: GitHub may deliver an event twice.

use serde::Deserialize;

use super::{DeployMark, Heard, MAX_NAME_BYTES, Problem, line, link, not_understood, version};

#[derive(Debug, Deserialize)]
struct Event {
    deployment: Deployment,
    deployment_status: Option<Status>,
    repository: Repository,
    workflow_run: Option<Run>,
    sender: Option<User>,
}

#[derive(Debug, Deserialize)]
struct Deployment {
    id: u64,
    sha: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    environment: Option<String>,
    creator: Option<User>,
}

#[derive(Debug, Deserialize)]
struct Status {
    state: String,
    environment: Option<String>,
    log_url: Option<String>,
    target_url: Option<String>,
    environment_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    name: String,
    full_name: Option<String>,
    html_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Run {
    html_url: Option<String>,
    actor: Option<User>,
}

#[derive(Debug, Deserialize)]
struct User {
    login: Option<String>,
}

fn text(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// What an event of this name means.
pub(super) fn hear(event: &str, body: &[u8]) -> Result<Heard, Problem> {
    match event {
        "deployment" | "deployment_status" => {}
        "ping" => return Ok(Heard::Nothing("the webhook reaches this node".to_owned())),
        other => {
            let other = line(other, 60);
            return Ok(Heard::Nothing(format!("{other} tells of no deployment; choose the events deployment_status")));
        }
    }
    let told: Event =
        serde_json::from_slice(body).map_err(|error| not_understood("GitHub's deployment events", &error))?;
    let status = match (event, told.deployment_status.as_ref().map(|status| status.state.as_str())) {
        ("deployment", _) => "requested",
        (_, Some("in_progress")) => "started",
        (_, Some("success")) => "succeeded",
        (_, Some("failure" | "error")) => "failed",
        (_, state) => {
            let state = line(state.unwrap_or("no state"), 60);
            return Ok(Heard::Nothing(format!("{state} is no change of what runs")));
        }
    };
    Ok(Heard::Mark(told.mark(status)))
}

impl Event {
    fn mark(&self, status: &str) -> DeployMark {
        let Event { deployment, deployment_status, repository, workflow_run, sender } = self;
        let state = deployment_status.as_ref();
        let run = workflow_run.as_ref();
        // With a workflow the creator is GitHub's own robot, and the person is the one who began the run.
        let users = [run.and_then(|run| run.actor.as_ref()), deployment.creator.as_ref(), sender.as_ref()];
        let actor = users.into_iter().flatten().find_map(|user| text(&user.login)).unwrap_or("github");
        let environment = state.and_then(|state| text(&state.environment)).or(text(&deployment.environment));
        let full_name = repository.full_name.as_deref().unwrap_or(&repository.name);
        DeployMark {
            service: line(&repository.name, MAX_NAME_BYTES),
            version: version(
                deployment.reference.as_deref().unwrap_or_default(),
                deployment.sha.as_deref().unwrap_or_default(),
            ),
            environment: line(environment.unwrap_or(super::PRODUCTION), MAX_NAME_BYTES),
            status: status.to_owned(),
            actor: line(actor, MAX_NAME_BYTES),
            url: link([
                state.and_then(|state| text(&state.log_url)),
                state.and_then(|state| text(&state.target_url)),
                run.and_then(|run| text(&run.html_url)),
                state.and_then(|state| text(&state.environment_url)),
                text(&repository.html_url),
            ]),
            source: "github".to_owned(),
            key: line(&format!("{}:{status}:{full_name}", deployment.id), MAX_NAME_BYTES),
        }
    }
}
