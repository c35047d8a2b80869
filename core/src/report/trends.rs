//! The gains of a family's probes with scale, beside the published ones.

use maud::{Markup, html};

use super::family::{FamilyInput, interval, table};
use super::format::fixed;
use crate::family::Family;
use crate::probe::{Interval, Trend};
use crate::recipe::{Reference, ReferenceTask};

/// Stands for the model that published gains are over, where nothing says which.
const UNSAID: &str = "the smallest";

/// A column of the table of trends.
type Column<'a> = (String, Box<dyn Fn(&Trend) -> String + 'a>);

/// The table of gains, with what may be said of it.
pub(super) fn trends(input: &FamilyInput) -> Option<Markup> {
    let family = input.family.filter(|family| !family.trends.is_empty())?;
    let scales: Vec<&str> = family.trained().map(|(member, _)| member.scale.as_str()).collect();
    let (smallest, largest) = (*scales.first()?, *scales.last()?);
    let untrained = family.trends.iter().any(|trend| !trend.untrained.is_empty());
    let mut columns: Vec<Column> = vec![gain_of(largest, scales.len() - 1)];
    if untrained {
        let gain =
            |trend: &Trend| trend.untrained.last().map_or("–".into(), |gain| interval(gain, 2));
        columns.push((format!("Untrained, gain of {largest}"), Box::new(gain)));
    }
    let reference = input.reference.filter(|reference| {
        family.trends.iter().any(|trend| reference.tasks.contains_key(&trend.label))
    });
    let (at, over) = reference.map_or(("", ""), published_gain);
    let same = |scale: &&str| *scale == at && (smallest == over || over == UNSAID);
    let beside = scales.iter().position(same);
    if let Some(place) = beside.filter(|place| place + 1 < scales.len()) {
        columns.push(gain_of(at, place));
    }
    let rho = |of: Option<Interval>| of.as_ref().map_or("–".into(), |rho| interval(rho, 3));
    columns.push(("Pearson’s r".into(), Box::new(move |trend| rho(trend.pearson))));
    columns.push(("Spearman’s ρ".into(), Box::new(move |trend| rho(trend.spearman))));
    if let Some(reference) = reference {
        let of = |trend: &Trend| reference.tasks.get(&trend.label).copied();
        let gain = move |trend: &Trend| of(trend).map_or("–".into(), |task| fixed(task.gain, 2));
        let rho = move |trend: &Trend| of(trend).map_or("–".into(), |task| fixed(task.rho, 3));
        columns.push((format!("Published: gain of {at} over {over}"), Box::new(gain)));
        columns.push(("Published: ρ".into(), Box::new(rho)));
    }
    let missing = missing(family, reference);
    let rows: Vec<Vec<String>> = family
        .trends
        .iter()
        .chain(&missing)
        .map(|trend| {
            let cells = columns.iter().map(|(_, cell)| cell(trend));
            std::iter::once(trend.label.clone()).chain(cells).collect()
        })
        .collect();
    let names = columns.iter().map(|(name, _)| name.as_str());
    let heading: Vec<&str> = std::iter::once("Label").chain(names).collect();
    Some(html! {
        p {
            "The gain of a model is the median absolute error of the smallest one, " (smallest)
            ", divided by its own; of a class, what is missing to an area of 1 under the ROC curve "
            "takes the error’s place. Correlations are of the gains with log10 FLOP. The paper says "
            "that it prints Spearman’s; its numbers are Pearson’s, so both are here. Intervals of 95% "
            "over the scored objects, the same for all models."
            @if untrained { (WITHOUT_TRAINING) }
            @if reference.is_some() && beside.is_none() {
                " The published gains are of " (at) " over " (over) ", of which a model is missing "
                "here: they stand beside no gain of their own scale, and are not to be compared with "
                "that of " (largest) " over " (smallest) "."
            }
        }
        @if !missing.is_empty() {
            p {
                "Published, and not probed here (no object has what they are computed of, or "
                "probe.labels leaves them out): "
                @for (i, trend) in missing.iter().enumerate() {
                    @if i > 0 { ", " }
                    (trend.label)
                }
                "."
            }
        }
        @if let Some(perfect) = not_determined(family) { p { (perfect) } }
        @if let Some(few) = few_objects(family, input.features) { p { strong { (few) } } }
        (table(&heading, &rows))
    })
}

/// The published tasks that no model was probed for, without a number of their own.
fn missing(family: &Family, reference: Option<&Reference>) -> Vec<Trend> {
    let tasks = reference.into_iter().flat_map(|reference| reference.tasks.keys());
    let missing = tasks.filter(|task| family.trends.iter().all(|trend| trend.label != **task));
    let nothing = |label: &String| Trend {
        label: label.clone(),
        gains: Vec::new(),
        pearson: None,
        spearman: None,
        untrained: Vec::new(),
        fitted: 0,
        scored: 0,
    };
    missing.map(nothing).collect()
}

/// The published gains and correlations, where no model was probed for any.
pub(super) fn published(reference: &Reference) -> Markup {
    let (at, over) = published_gain(reference);
    let row = |(label, task): (&String, &ReferenceTask)| {
        vec![label.clone(), fixed(task.gain, 2), fixed(task.rho, 3)]
    };
    let rows: Vec<Vec<String>> = reference.tasks.iter().map(row).collect();
    table(&["Label", &format!("Gain of {at} over {over}"), "ρ"], &rows)
}

/// What the gains of untrained models say.
const WITHOUT_TRAINING: &str = " Untrained models of the same sizes gain as well, by their width \
     alone: where they gain as much, the gain is no merit of training.";

/// The gains of the model of the scale `name`, number `place` of the trained.
fn gain_of<'a>(name: &str, place: usize) -> Column<'a> {
    let gain =
        move |trend: &Trend| trend.gains.get(place).map_or("–".into(), |gain| interval(gain, 2));
    (format!("Gain of {name}"), Box::new(gain))
}

/// Of which model over which the published gains are.
fn published_gain(reference: &Reference) -> (&str, &str) {
    (
        reference.gain_at.as_deref().unwrap_or("a model"),
        reference.gain_over.as_deref().unwrap_or(UNSAID),
    )
}

/// Of which labels the gains are not determined, in words.
pub(crate) fn not_determined(family: &Family) -> Option<String> {
    let of: Vec<&str> = family
        .trends
        .iter()
        .filter(|trend| !trend.determined())
        .map(|trend| trend.label.as_str())
        .collect();
    (!of.is_empty()).then(|| {
        format!(
            "Gains and correlations of {} are not determined: a model makes no error there, and a \
             gain is a ratio of errors.",
            of.join(", ")
        )
    })
}

/// Which labels have fewer objects than the largest model has features, in words.
pub(crate) fn few_objects(family: &Family, features: usize) -> Option<String> {
    let few = family
        .trends
        .iter()
        .filter(|trend| trend.fitted > 0 && trend.fitted.min(trend.scored) < features);
    let said = few
        .map(|trend| format!("{} ({} fitted, {} scored)", trend.label, trend.fitted, trend.scored));
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| {
        format!(
            "The largest model has {features} features, more than objects are fitted or scored: gains \
             may be of the fit and not of the model. {}.",
            said.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Member, Trained};
    use crate::recipe::ReferenceTask;

    fn family(scales: &[&str]) -> Family {
        let member = |scale: &&str| Member {
            scale: (*scale).to_owned(),
            trained: Some(Trained::default()),
            ..Member::default()
        };
        let gain = |k: usize| Interval { value: 1.0 + 0.125 * k as f64, low: None, high: None };
        let gains: Vec<Interval> = (0..scales.len()).map(gain).collect();
        let trend = Trend {
            label: "redshift".into(),
            untrained: gains.iter().map(|gain| gain.times(2.0)).collect(),
            gains,
            pearson: None,
            spearman: None,
            fitted: 20,
            scored: 40,
        };
        Family {
            members: scales.iter().map(member).collect(),
            trends: vec![trend],
            ..Family::default()
        }
    }

    fn page(scales: &[&str], features: usize) -> String {
        let family = family(scales);
        let reference = Reference {
            gain_at: Some("89M".into()),
            gain_over: Some("1M".into()),
            tasks: [("redshift".to_owned(), ReferenceTask { rho: 0.961, gain: 1.23 })].into(),
            ..Reference::default()
        };
        let input = FamilyInput {
            family: Some(&family),
            reference: Some(&reference),
            features,
            ..FamilyInput::default()
        };
        trends(&input).expect("a table").into_string()
    }

    #[test]
    fn published_gains_stand_beside_the_gain_of_their_own_scale() {
        // The third of four has gained 1.25, the largest 1.375.
        let whole = page(&["1M", "21M", "89M", "2.1B"], 16);
        let row = ["1.38", "2.75", "1.25"].map(|cell| format!("<td class=\"\">{cell}</td>"));
        assert!(whole.contains(&format!("redshift</td>{}", row.concat())), "{whole}");
        for heading in ["Gain of 2.1B", "Untrained, gain of 2.1B", "Gain of 89M"] {
            assert!(whole.contains(&format!("<th>{heading}</th>")), "{heading}: {whole}");
        }
        assert!(
            whole.contains("Published: gain of 89M over 1M") && !whole.contains("missing here")
        );
        let largest = page(&["1M", "89M"], 16);
        assert_eq!(largest.matches("Gain of 89M").count(), 1, "{largest}");
        for scales in [&["demo-S", "demo-L"], &["5M", "89M"], &["1M", "12M"]] {
            let other = page(scales, 16);
            assert!(other.contains("a model is missing here"), "{other}");
            assert!(other.contains(&format!("<th>Gain of {}</th>", scales[1])), "{other}");
        }
    }

    #[test]
    fn gains_that_are_not_determined_are_said_to_be() {
        let mut family = family(&["1M", "5M"]);
        (family.trends[0].gains, family.trends[0].untrained) = Default::default();
        let input = FamilyInput { family: Some(&family), ..FamilyInput::default() };
        let page = trends(&input).expect("a table").into_string();
        assert!(page.contains("redshift are not determined: a model makes no error"), "{page}");
        assert_eq!(page.matches("<td class=\"\">–</td>").count(), 3, "{page}");
        assert!(!self::page(&["1M", "5M"], 16).contains("not determined"));
    }

    #[test]
    fn fewer_objects_than_features_are_told() {
        assert!(page(&["1M", "5M"], 96).contains("redshift (20 fitted, 40 scored)"));
        assert!(!page(&["1M", "5M"], 20).contains("more than objects"));
    }
}
