//! What an object's own series tells of its tokens beyond them.

use astropt_core::observation::Observation;
use astropt_core::seam::SpanFacts;
use astropt_core::tokens::Tokens;

use super::TimeSeries;
use super::config::TimePosition;

impl TimeSeries {
    /// Units, and from when times are counted where no `zero` is stated. Padding repeats places,
    /// which tokens tell themselves.
    pub(super) fn facts_of(&self, own: Option<&Observation>, tokens: &Tokens) -> SpanFacts {
        let config = &self.config;
        let mut facts = SpanFacts { padding: Some(0), ..SpanFacts::default() };
        let unit = |name: &String| Some((name.clone(), own?.fields.get(name)?.unit.clone()?));
        facts.units.extend(unit(&config.time));
        if tokens.affine.is_empty() && self.has_units(tokens) {
            let names = [Some(&config.value), config.error.as_ref()];
            facts.units.extend(names.into_iter().flatten().filter_map(unit));
        }
        let samples = own.and_then(|own| self.read(own).ok().flatten()).unwrap_or_default();
        let kept = self.kept(&samples);
        let bounds = kept.first().zip(kept.last()).map(|(first, last)| (first.time, last.time));
        let modulo = self.modulo(bounds);
        let mut notes = Vec::new();
        match (config.zero, bounds) {
            (None, Some((first, _))) => {
                // With it added, what is modulo a period would look like true times.
                if modulo.is_some() {
                    notes.push(format!("from {first}"));
                } else {
                    facts.offsets.insert(config.time.clone(), first);
                }
            }
            (None, None) => notes.push("from the object's first".to_owned()),
            (Some(_), _) => {}
        }
        notes.extend(modulo.map(|longest| format!("modulo {longest}")));
        if !notes.is_empty() {
            facts.notes.insert(config.time.clone(), format!("counted {}", notes.join(", ")));
        }
        facts
    }

    /// The longest period where positions tell times between these `bounds` modulo it alone.
    fn modulo(&self, bounds: Option<(f64, f64)>) -> Option<f64> {
        let TimePosition::Periodic(periods) = &self.config.positions else { return None };
        let longest = periods.iter().copied().fold(0.0, f64::max);
        let zero = |first: f64| self.config.zero.unwrap_or(first);
        let within =
            |(first, last): (f64, f64)| first >= zero(first) && last - zero(first) < longest;
        (!bounds.is_some_and(within)).then_some(longest)
    }
}

#[cfg(test)]
mod tests {
    use astropt_core::seam::ModalityConfig;

    use super::*;
    use crate::fields;
    use crate::time_series::TimeSeriesConfig;

    fn facts(table: &str, with_own: bool) -> SpanFacts {
        let table = format!("max_tokens = 8\nstandardise = 'none'\n{table}").parse();
        let config: TimeSeriesConfig =
            astropt_core::seam::parse_config(table.expect("TOML")).expect("a table");
        let modality = config.build().expect("sound");
        let mut own = Observation { id: "x".into(), ..Observation::default() };
        let times = vec![58_010.5, 58_003.25, 58_020.0];
        own.fields.insert("time".into(), fields::doubles(times, Some("d")));
        own.fields.insert("value".into(), fields::floats(vec![18.0, 19.0, 18.5], Some("mag")));
        let tokens = modality.tokenise(&own).expect("sound").expect("a curve");
        modality.facts(with_own.then_some(&own), &tokens)
    }

    #[test]
    fn times_are_the_objects_own_where_they_are_known() {
        let own = facts("positions.affine = 10.0", true);
        assert_eq!((own.padding, own.offsets["time"]), (Some(0), 58_003.25));
        assert_eq!((own.units["time"].as_str(), own.units["value"].as_str()), ("d", "mag"));
        assert!(own.notes.is_empty());
        let others = facts("positions.affine = 10.0", false);
        assert!(others.offsets.is_empty());
        assert_eq!(others.notes["time"], "counted from the object's first");
        // Stated, they are told already.
        let stated = facts("positions.affine = 10.0\nzero = 58000.0", true);
        assert!(stated.offsets.is_empty() && stated.notes.is_empty());
        let short = facts("positions.periodic = [4.0, 10.0]", true);
        assert_eq!(short.notes["time"], "counted from 58003.25, modulo 10");
        assert!(short.offsets.is_empty(), "they would look like true times");
        let others = facts("positions.periodic = [4.0, 100.0]", false);
        assert_eq!(others.notes["time"], "counted from the object's first, modulo 100");
        let stated = facts("positions.periodic = [4.0, 10.0]\nzero = 58000.0", true);
        assert_eq!(stated.notes["time"], "counted modulo 10");
        let long = facts("positions.periodic = [4.0, 100.0]", true);
        assert!(long.notes.is_empty() && long.offsets["time"] == 58_003.25);
    }
}
