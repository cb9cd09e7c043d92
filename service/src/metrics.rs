//! Metrics in Prometheus' text format.

/// The media type of [`Metrics::into_text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// A page of metrics whose names begin alike.
#[derive(Debug)]
pub struct Metrics {
    prefix: &'static str,
    text: String,
}

/// One metric: its values, each with labels of its own.
#[derive(Debug)]
pub struct Family<'m> {
    metrics: &'m mut Metrics,
    name: &'static str,
}

impl Metrics {
    /// An empty page.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// A count that only grows while the process lives; `name` ends with `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// What goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let prefix = self.prefix;
        self.text += &format!("# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}\n");
        Family { metrics: self, name }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// The only value.
    pub fn is(self, value: f64) {
        self.of(&[], value);
    }

    /// A value with labels.
    pub fn of(self, labels: &[(&str, &str)], value: f64) -> Self {
        let Metrics { prefix, text } = &mut *self.metrics;
        *text += &format!("{prefix}_{}", self.name);
        for (i, (label, of)) in labels.iter().enumerate() {
            let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            *text += &format!("{}{label}=\"{of}\"", if i == 0 { '{' } else { ',' });
        }
        *text += if labels.is_empty() { " " } else { "} " };
        *text += &format!("{value}\n");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut metrics = Metrics::new("edge");
        metrics.counter("events_total", "Events.").is(7.0);
        metrics.gauge("up", "1 while it is.").of(&[("name", "a\\b\"c\nd"), ("kind", "x")], 0.5);
        let expected = "# HELP edge_events_total Events.\n# TYPE edge_events_total counter\nedge_events_total 7\n\
                        # HELP edge_up 1 while it is.\n# TYPE edge_up gauge\nedge_up{name=\"a\\\\b\\\"c\\nd\",kind=\"x\"} 0.5\n";
        assert_eq!(metrics.into_text(), expected);
    }
}
