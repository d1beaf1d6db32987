//! When each request is due: decided by the profile of its flow and the seed, before anything is sent.

use kernel::Entropy;

use super::{Flow, Load};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// After second 0, in microseconds.
    pub(crate) at_us: u64,
    /// The place of its flow.
    pub(crate) flow: usize,
    pub(crate) is_high: bool,
}

/// All requests in the order in which they are due.
pub(crate) fn due(load: &Load) -> Vec<Due> {
    let mut all: Vec<Due> = Vec::new();
    for (index, flow) in load.flows.iter().enumerate() {
        let mut entropy = Entropy::from_seed(load.seed.wrapping_mul(1000).wrapping_add(index as u64));
        all.extend(of_flow(flow, index, load.secs, &mut entropy));
    }
    // Stable: what is due at the same moment stays in the order of the flows.
    all.sort_by_key(|due| due.at_us);
    all
}

fn of_flow(flow: &Flow, index: usize, secs: f64, entropy: &mut Entropy) -> Vec<Due> {
    let mut out = Vec::new();
    for (step, (from, rate)) in flow.profile.iter().enumerate() {
        let to = flow.profile.get(step + 1).map_or(secs, |next| next.0).min(secs);
        if *rate <= 0.0 {
            continue;
        }
        let pause = |entropy: &mut Entropy| -(1.0 - entropy.unit()).ln() / rate;
        let mut at = *from + if flow.poisson { pause(entropy) } else { 0.0 };
        let mut count = 0_u64;
        while at < to {
            let is_high = flow.high_share > 0.0 && entropy.unit() < flow.high_share;
            out.push(Due { at_us: (at * 1e6) as u64, flow: index, is_high });
            count += 1;
            at = if flow.poisson { at + pause(entropy) } else { from + count as f64 / rate };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flows: Vec<Flow>) -> Load {
        Load { targets: Vec::new(), flows, secs: 20.0, seed: 1 }
    }

    #[test]
    fn the_schedule_follows_the_profile() {
        let profile = vec![(0.0, 200.0), (5.0, 600.0), (13.0, 200.0)];
        let even = Flow { profile, high_share: 0.1, ..Flow::default() };
        let due_even = due(&load(vec![even.clone()]));
        assert_eq!(due_even.len(), 1000 + 4800 + 1400);
        assert!(due_even.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
        assert_eq!(due_even.iter().filter(|due| due.at_us < 5_000_000).count(), 1000);
        // 720 expected, sigma 25: five sigma either way.
        let high = due_even.iter().filter(|due| due.is_high).count();
        assert!((595..845).contains(&high), "{high}");
        // 7,200 expected, sigma 85.
        let random = due(&load(vec![Flow { poisson: true, ..even }]));
        assert!((6775..7625).contains(&random.len()), "{}", random.len());
    }

    #[test]
    fn flows_are_merged_and_may_end_early() {
        let rare = Flow { profile: vec![(2.0, 1.0), (8.0, 0.0)], ..Flow::default() };
        let all = due(&load(vec![Flow { profile: vec![(0.0, 10.0)], ..Flow::default() }, rare]));
        let rare: Vec<u64> = all.iter().filter(|due| due.flow == 1).map(|due| due.at_us / 1_000_000).collect();
        assert_eq!(rare, [2, 3, 4, 5, 6, 7]);
        assert_eq!(all.len(), 206);
        assert!(all.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let flow = Flow { poisson: true, high_share: 0.5, ..Flow::default() };
        assert_eq!(due(&load(vec![flow.clone()])), due(&load(vec![flow])));
    }
}
