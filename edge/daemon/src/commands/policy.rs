//! Who may do what: signatures, rules and rates.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use asset_stream::command::Command;
use asset_stream::command::signature::{PublicKey, Unverified, verify};
use asset_stream::command::status::Reason;
use gateway::Refusal;

use super::config::{Config, Rate, Rule, Signature};
use super::terms::Range;

/// The rules of the config at work.
#[derive(Debug)]
pub(crate) struct Policy {
    keys: BTreeMap<String, Vec<PublicKey>>,
    rules: Vec<Rule>,
    /// What was allowed lately, by rule and sender.
    allowance: HashMap<(usize, String), Allowance>,
}

/// The rules that allow a command, in their order.
#[derive(Debug)]
pub(crate) struct Allowed(Vec<usize>);

/// What is left of a rate: full after so long a time without commands.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

/// Senders whose rates are kept in mind; a sender beyond them begins with a full one.
const SENDERS: usize = 10_000;

impl Policy {
    /// The policy of a config whose keys can be read: without that, nobody has any.
    pub(crate) fn new(config: &Config) -> Self {
        Self { keys: config.read_keys().unwrap_or_default(), rules: config.allow.clone(), allowance: HashMap::new() }
    }

    /// The policy of a config that was read again. Keys may be others in the same files; what was allowed lately still counts under the same rules.
    pub(crate) fn renew(&mut self, config: &Config) {
        let before = std::mem::replace(self, Self::new(config));
        if before.rules == self.rules {
            self.allowance = before.allowance;
        }
    }

    /// Whether the command is allowed, its sender's rate aside; the rules that allow it.
    pub(crate) fn allows(&self, asset: &str, method: &str, command: &Command) -> Result<Allowed, Refusal> {
        let refuse = |reason, detail: String| Err(Refusal { reason, detail });
        let sender = command.header.sender_uuid.as_str();
        let is_signed = match self.keys.get(sender) {
            _ if command.header.signature.as_deref().unwrap_or_default().is_empty() => false,
            None => {
                return refuse(
                    Reason::UnknownSender,
                    format!("{sender:?} has signed it and has no key here; add it to [commands.keys] of the edge"),
                );
            }
            Some(keys) => match verify(keys, asset, method, command) {
                Ok(()) => true,
                Err(why @ (Unverified::Unsigned | Unverified::Unreadable | Unverified::Forged)) => {
                    return refuse(Reason::Forged, why.to_string());
                }
            },
        };
        let about = |rule: &Rule| {
            let one = |patterns: &[super::pattern::Pattern], name: &str| patterns.iter().any(|pattern| pattern.matches(name));
            one(&rule.senders, sender) && one(&rule.assets, asset) && one(&rule.methods, method)
        };
        // If no rule says yes, the refusal of the one that was nearest to it.
        let (mut allowed, mut nearest) = (Vec::new(), None);
        for (i, rule) in self.rules.iter().enumerate().filter(|(_, rule)| about(rule)) {
            if !is_signed && rule.signature == Signature::Required {
                let detail = "it is not signed, and the rule of the edge that covers it asks for that (signature = \"optional\" would not)";
                nearest.get_or_insert(Refusal { reason: Reason::Unsigned, detail: detail.into() });
                continue;
            }
            if let Some(refusal) = out_of_range(rule, command) {
                nearest = Some(refusal);
                continue;
            }
            allowed.push(i);
        }
        if !allowed.is_empty() {
            return Ok(Allowed(allowed));
        }
        match nearest {
            Some(refusal) => Err(refusal),
            None if !is_signed && !self.rules.iter().any(|rule| rule.signature == Signature::Optional) => refuse(
                Reason::Unsigned,
                format!("it is not signed, and no rule in [[commands.allow]] of the edge allows that to {sender:?}"),
            ),
            None => {
                refuse(Reason::NotAllowed, format!("no rule in [[commands.allow]] of the edge allows {method} of {asset} to {sender:?}"))
            }
        }
    }
}

impl Policy {
    /// Counts a command against the rate of one of the rules that allow it.
    pub(crate) fn take(&mut self, Allowed(rules): &Allowed, sender: &str, now: Instant) -> Result<(), Refusal> {
        if self.allowance.len() >= SENDERS {
            let rates: Vec<_> = self.rules.iter().map(|rule| rule.rate).collect();
            let is_full = |i: usize, allowance: &Allowance| {
                rates.get(i).copied().flatten().is_none_or(|rate| now.duration_since(allowance.at) >= rate.time)
            };
            self.allowance.retain(|(i, _), allowance| !is_full(*i, allowance));
        }
        let mut refusal = Refusal { reason: Reason::TooOften, detail: String::new() };
        for i in rules {
            let Some(rate) = self.rules.get(*i).and_then(|rule| rule.rate) else { return Ok(()) };
            let allowance = self.allowance.entry((*i, sender.to_owned())).or_insert(Allowance { left: f64::from(rate.count), at: now });
            if allowance.takes(rate, now) {
                return Ok(());
            }
            let Rate { count, time } = rate;
            refusal.detail = format!("{sender:?} may ask {count} times in {time:?}");
        }
        Err(refusal)
    }
}

fn out_of_range(rule: &Rule, command: &Command) -> Option<Refusal> {
    rule.arguments.iter().find_map(|(name, limits)| {
        let (reason, why) = Range::from(*limits).refusal(command.argument(name)?)?;
        Some(Refusal { reason, detail: format!("the argument {name}: {why}; the edge's policy allows no more to this sender") })
    })
}

impl Allowance {
    fn takes(&mut self, Rate { count, time }: Rate, now: Instant) -> bool {
        let count = f64::from(count);
        let regained = now.saturating_duration_since(self.at).as_secs_f64() / time.as_secs_f64() * count;
        *self = Self { left: (self.left + regained).min(count), at: now };
        let takes = self.left >= 1.0;
        if takes {
            self.left -= 1.0;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Policy};
    use asset_stream::command::signature::PrivateKey;
    use asset_stream::command::status::Reason;
    use asset_stream::command::{Command, Header};
    use std::time::{Duration, Instant};

    fn policy(key: &PrivateKey, rules: &str) -> Policy {
        Policy::new(&toml::from_str::<Config>(&format!("{rules}\n[keys]\n\"HMI-7\" = \"{}\"\n", key.public())).expect("a config"))
    }

    fn command(sender: &str, arguments: &[(&str, &str)]) -> Command {
        let header = Header { correlation_id: "c".into(), sender_uuid: sender.into(), ..Header::default() };
        Command { header, arguments: arguments.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
    }

    fn permits(policy: &mut Policy, asset: &str, command: &Command, now: Instant) -> Option<Reason> {
        let allowed = policy.allows(asset, "Move", command).and_then(|allowed| policy.take(&allowed, &command.header.sender_uuid, now));
        allowed.err().map(|refusal| refusal.reason)
    }

    fn reason(policy: &mut Policy, command: &Command) -> Option<Reason> {
        permits(policy, "CNC-1", command, Instant::now())
    }

    #[test]
    fn without_rules_nothing_is_allowed_signed_or_not() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let mut policy = policy(&key, "");
        let mut command = command("HMI-7", &[]);
        assert_eq!(reason(&mut policy, &command), Some(Reason::Unsigned));
        command.header.signature = Some(key.sign("CNC-1", "Move", &command));
        assert_eq!(reason(&mut policy, &command), Some(Reason::NotAllowed));
    }

    #[test]
    fn a_signature_counts_for_its_sender_asset_method_and_arguments_alone() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let mut policy = policy(&key, "[[allow]]\nsenders = [\"*\"]\n[[allow]]\nsenders = [\"OLD\"]\nsignature = \"optional\"");
        let mut signed = command("HMI-7", &[("x", "1")]);
        signed.header.signature = Some(key.sign("CNC-1", "Move", &signed));
        assert_eq!(reason(&mut policy, &signed), None);
        let other = |change: &dyn Fn(&mut Command)| {
            let mut other = signed.clone();
            change(&mut other);
            other
        };
        for (command, expected) in [
            (other(&|c| c.arguments[0].1 = "2".into()), Reason::Forged),
            (other(&|c| c.header.signature = Some("ed25519:AAAA".into())), Reason::Forged),
            (other(&|c| c.header.expires_at = Some("2100-01-01T00:00:00Z".into())), Reason::Forged),
            (other(&|c| c.header.sender_uuid = "HMI-8".into()), Reason::UnknownSender),
            (other(&|c| c.header.signature = None), Reason::Unsigned),
            (other(&|c| c.header.signature = Some(String::new())), Reason::Unsigned),
        ] {
            assert_eq!(reason(&mut policy, &command), Some(expected), "{command:?}");
        }
        assert_eq!(permits(&mut policy, "CNC-2", &signed, Instant::now()), Some(Reason::Forged));
        assert_eq!(reason(&mut policy, &command("OLD", &[])), None, "this sender may do it unsigned");
    }

    #[test]
    fn arguments_and_rates_are_limited_by_the_rule() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let mut policy = policy(
            &key,
            "[[allow]]\nsenders = [\"A\", \"B\"]\nmethods = [\"M*\"]\nsignature = \"optional\"\nrate = \"2 / min\"\narguments = {x = {min = 0, max = 10}}",
        );
        let start = Instant::now();
        let mut ask = |sender: &str, x: &str, after: u64| {
            permits(&mut policy, "CNC-1", &command(sender, &[("x", x)]), start + Duration::from_secs(after))
        };
        assert_eq!(ask("A", "11", 0), Some(Reason::OutOfRange));
        assert_eq!((ask("A", "10", 0), ask("A", "0", 1), ask("A", "0", 2)), (None, None, Some(Reason::TooOften)));
        assert_eq!((ask("B", "1", 2), ask("A", "1", 35), ask("A", "1", 36)), (None, None, Some(Reason::TooOften)));
        assert_eq!(ask("C", "1", 40), Some(Reason::NotAllowed));
    }
}
