//! From the files of a run or a family to its figures.

use std::path::{Path, PathBuf};

use super::emergence::EMERGENCE;
use super::stages::{EMBEDDINGS, random_init};
use crate::checkpoint::{checksums, write_bytes, write_folder_atomic};
use crate::data::unit_hash;
use crate::embed::{Embeddings, LabelKind};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::family::law::left_open;
use crate::figures::format::{count, fixed, significant};
use crate::figures::{
    FittedLaw, Gain, GainPanel, Gains, LossCurve, LossCurves, LossMark, MapColumn, MapProperty,
    PropertyMaps, ScoreCurves, ScorePoint, ScoreSeries, Spiral, Stamp, gains, loss_curves, png,
    property_maps, score_curves, spiral,
};
use crate::picture;
use crate::probe::{Emergence, Features, Interval, Told, add_tasks, asked_labels};
use crate::recipe::{Plan, ProbeConfig};
use crate::report::Figure;
use crate::run::RunFolder;
use crate::seam::Modality;
use crate::tokens::{Tokens, Values};
use crate::umap::{UmapConfig, trustworthiness, umap};

/// The folder of figures.
pub(super) const FIGURES: &str = "figures";
/// Pixels of a bitmap for each unit of its drawing.
const PNG_SCALE: f64 = 2.0;
/// Most objects on a map.
const MAPPED: usize = 2000;
/// Fewest objects that are worth a map.
const FEWEST_MAPPED: usize = 50;
/// Most properties that maps are coloured by.
const PROPERTIES: usize = 12;
/// Places at which a law's band is drawn.
const BAND: usize = 40;

/// Writes `figures` into the folder of that name in `folder`, as SVG and PNG.
///
/// # Errors
/// When they cannot be drawn or written.
pub(super) fn write(folder: &Path, figures: &[Figure]) -> Result<()> {
    if figures.is_empty() {
        return Ok(());
    }
    write_folder_atomic(folder.join(FIGURES), |folder| {
        for Figure { name, svg, .. } in figures {
            write_bytes(folder.join(format!("{name}.svg")), svg.as_bytes())?;
            write_bytes(folder.join(format!("{name}.png")), &png(svg, PNG_SCALE)?)?;
        }
        Ok(())
    })
}

/// The figures of one model, as far as its files tell.
pub(super) fn of_run(folder: &RunFolder, plan: &Plan) -> Result<Vec<Figure>> {
    let columns = [
        ("untrained".to_owned(), folder.file(&random_init(0))),
        ("trained".to_owned(), folder.file(EMBEDDINGS)),
    ];
    let figures = [patch_order(folder, plan)?, maps(&columns, plan)?];
    let mut out: Vec<Figure> = figures.into_iter().flatten().collect();
    out.extend(emergence(folder)?);
    Ok(out)
}

/// The figures of a family in the folder `out`.
pub(super) fn of_family(family: &Family, plan: &Plan, out: &Path) -> Result<Vec<Figure>> {
    let scales: Vec<&String> = family.trained().map(|(member, _)| &member.scale).collect();
    let [small, .., large] = scales[..] else { return Ok(Vec::new()) };
    let (folder, _) = RunFolder::open(&out.join(small))?;
    let column = |scale: &String| (scale.clone(), out.join(scale).join(EMBEDDINGS));
    let figures = [
        patch_order(&folder, plan)?,
        Some(losses(family)),
        maps(&[column(small), column(large)], plan)?,
        trends(family, small),
    ];
    let mut figures: Vec<Figure> = figures.into_iter().flatten().collect();
    let (folder, _) = RunFolder::open(&out.join(large))?;
    for mut figure in emergence(&folder)? {
        figure.caption = format!("{large}: {}", figure.caption);
        figures.push(figure);
    }
    Ok(figures)
}

/// Figure 1, of the first modality whose tokens are the patches of a square image.
fn patch_order(folder: &RunFolder, plan: &Plan) -> Result<Option<Figure>> {
    let modalities = plan.build_modalities()?;
    let found = modalities.iter().find_map(|(name, modality)| {
        Some((name, patches(modality.as_ref())?)) //
    });
    let Some((name, Patches { size, mut spiral })) = found else { return Ok(None) };
    // A preview begins with an object's picture; of several modalities it may be another's.
    if let Some((_, path)) = folder.previews()?.pop().filter(|_| modalities.len() == 1) {
        let sheet = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        spiral.stamp = picture::first(&sheet, size).map(|rgb| Stamp { size, rgb });
    }
    let caption = format!(
        "The {} patches of an object of {name:?}, coloured by their place in the sequence, from the \
         circle to the arrow. Each is predicted from those before it.",
        count(spiral.order.len() as u64)
    );
    Ok(Some(Figure {
        name: "order",
        title: "The order in which patches are read".into(),
        caption,
        svg: self::spiral(&spiral),
    }))
}

/// The patches of a square image, and its size in pixels.
struct Patches {
    size: usize,
    spiral: Spiral,
}

/// Reads the order of patches off the inverse of tokenising: tokens that hold their own place
/// become an image whose pixels tell which token they came from. `None` where tokens are no
/// patches of a square image.
fn patches(modality: &dyn Modality) -> Option<Patches> {
    let spec = modality.spec();
    let Values::Continuous { width } = spec.values else { return None };
    let len = spec.max_tokens;
    let grid = len.isqrt();
    let place = |k: usize| std::iter::repeat_n(k as f32 / len as f32, width);
    let tokens = Tokens {
        len,
        values: (0..len).flat_map(place).collect(),
        indices: (0..len as u32).collect(),
        ..Tokens::default()
    };
    let image = modality.detokenise(&tokens).ok()?;
    let &[size, across, bands] = &image.shape[..] else { return None };
    if size != across || grid < 2 || grid * grid != len || !size.is_multiple_of(grid) {
        return None;
    }
    let (pixels, patch) = (image.data.to_f32(), size / grid);
    let value = |&(row, column): &(usize, usize)| pixels[(row * size + column) * patch * bands];
    // By rank, whatever stretch the values went through on their way.
    let mut order: Vec<(usize, usize)> =
        (0..grid).flat_map(|row| (0..grid).map(move |column| (row, column))).collect();
    order.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let distinct = order.windows(2).all(|pair| value(&pair[0]) < value(&pair[1]));
    distinct.then_some(Patches { size, spiral: Spiral { grid, order, stamp: None } })
}

/// Figure 2.
fn losses(family: &Family) -> Figure {
    let curve = |(member, trained): (&crate::family::Member, &crate::family::Trained)| LossCurve {
        name: member.scale.clone(),
        flops_per_token: 6.0 * member.parameters as f64,
        points: trained.curve.iter().map(|&(tokens, loss)| (tokens as f64, loss)).collect(),
    };
    let compared = family.compared();
    let computes: Vec<f64> = compared.iter().map(|(_, trained)| trained.flops).collect();
    let fit = family.compute.as_ref();
    // The last one foretold, whether it was right or is still to be trained.
    let foretold = compared.iter().rev().find_map(|(member, trained)| {
        let flops = trained.flops;
        let loss = member.predicted.as_ref()?.loss;
        Some(LossMark { name: format!("{}, foretold", member.scale), flops, loss })
    });
    let svg = loss_curves(&LossCurves {
        loss_name: "validation loss".into(),
        curves: compared.iter().copied().map(curve).collect(),
        law: fit.map(|fit| FittedLaw {
            floor: fit.law.floor,
            a: fit.law.a * fit.law.unit.powf(fit.law.b),
            b: fit.b,
            band: band(fit, &computes),
            open: !left_open(&fit.b).is_empty(),
        }),
        saturation: fit.and_then(|fit| {
            let flops = fit.saturation?.value;
            let loss = Interval { value: fit.law.at(flops), low: None, high: None };
            Some(LossMark { name: "saturated from here on".into(), flops, loss })
        }),
        forecast: foretold,
    });
    let caption = "Every evaluation on the way, against compute (6 N for each token) and against \
                   tokens, both axes logarithmic. Dashed: the law fitted to the ends of the curves; \
                   orange: what the smaller models foretold of the last one before it was trained. \
                   Band and bar: 95% over the evaluated objects alone; how far the law may be off is \
                   in neither, nor the seed of a training. On the way the learning rate had not come \
                   down, so that the curves lie above what a training of that length reaches.";
    let open = fit.map_or_else(String::new, |fit| match left_open(&fit.b) {
        said if said.is_empty() => said,
        said => format!(" The law’s exponent b{said}."),
    });
    let apart = family.apart().map_or_else(String::new, |apart| format!(" {apart}."));
    Figure {
        name: "loss",
        title: "Loss against compute and tokens".into(),
        caption: format!("{caption}{open}{apart}"),
        svg,
    }
}

/// The interval of the law from the least of `computes` to twice the most.
fn band(fit: &crate::family::fit::ComputeFit, computes: &[f64]) -> Vec<(f64, f64, f64)> {
    let low = computes.iter().copied().fold(f64::INFINITY, f64::min);
    let high = 2.0 * computes.iter().copied().fold(0.0, f64::max);
    let at = |k: usize| low * (high / low).powf(k as f64 / BAND as f64);
    let ends = |flops: f64| {
        let loss = fit.at(flops);
        Some((flops, loss.low?, loss.high?))
    };
    (0..=BAND).map(at).filter_map(ends).collect()
}

/// Figure 4.
fn trends(family: &Family, smallest: &str) -> Option<Figure> {
    let computes: Vec<f64> = family.trained().map(|(_, trained)| trained.flops).collect();
    let undefined = Interval { value: f64::NAN, low: None, high: None };
    let determined = family.trends.iter().filter(|trend| trend.determined());
    let panels = determined.map(|trend| GainPanel {
        task: trend.label.clone(),
        gains: computes
            .iter()
            .zip(&trend.gains)
            .map(|(&flops, &gain)| Gain { flops, gain })
            .collect(),
        spearman: trend.spearman.unwrap_or(undefined),
        pearson: trend.pearson.unwrap_or(undefined),
    });
    let panels: Vec<GainPanel> = panels.collect();
    (!panels.is_empty()).then(|| Figure {
        name: "gains",
        title: "Gain of every probe against compute".into(),
        caption: format!(
            "The error of {smallest} divided by that of each model: above 1 is better. Bars are \
             intervals of 95% over the scored objects; correlations are with log10 FLOP. What untrained \
             models of the same sizes gain is in the table below."
        ),
        svg: gains(&Gains { gain_name: format!("Gain over {smallest}"), panels, columns: 2 }),
    })
}

/// How well labels are told through training, and from block to block.
fn emergence(folder: &RunFolder) -> Result<Vec<Figure>> {
    let Some(told) = Emergence::read_json(&folder.verified(EMERGENCE)?)? else {
        return Ok(Vec::new());
    };
    let series = |told: &[Told]| -> Vec<ScoreSeries> {
        let of = |label: &str| {
            let point = |told: &Told| {
                let score = *told.score(label)?;
                Some(ScorePoint { at: told.at as f64, score })
            };
            ScoreSeries { name: label.to_owned(), points: told.iter().filter_map(point).collect() }
        };
        Emergence::labels(told).into_iter().map(of).collect()
    };
    let draw = |x_name: &str, told: &[Told]| {
        score_curves(&ScoreCurves {
            score_name: format!("{} of the probe", Emergence::measure(told)),
            x_name: x_name.into(),
            log: false,
            series: series(told),
        })
    };
    let mut out = Vec::new();
    if told.checkpoints.len() > 1 {
        out.push(Figure {
            name: "emergence",
            title: "When in training a property becomes known".into(),
            caption: "The same probe of the embeddings after each checkpoint; step 0 is the \
                      untrained model. Bands are intervals of 95% over the scored objects."
                .into(),
            svg: draw("Training step", &told.checkpoints),
        });
    }
    if told.layers.len() > 1 {
        out.push(Figure {
            name: "layers",
            title: "Where in the model a property is known".into(),
            caption: "The same probe of what each block puts out, the first of them 0. Bands are \
                      intervals of 95% over the scored objects."
                .into(),
            svg: draw("Block", &told.layers),
        });
    }
    Ok(out)
}

/// Figure 3: maps of the embeddings in files, each with its title, of the same objects. `None`
/// where there are too few objects, no labels, or other objects in one file than in another.
fn maps(columns: &[(String, PathBuf)], plan: &Plan) -> Result<Option<Figure>> {
    if columns.iter().any(|(_, path)| !path.exists()) {
        return Ok(None);
    }
    let config = UmapConfig::default();
    let (mut drawn, mut trusted) = (Vec::new(), Vec::new());
    let mut first: Option<Embeddings> = None;
    let mut rows = Vec::new();
    for (title, path) in columns {
        checksums::check_whole(path)?;
        let mut table = Embeddings::read_parquet(path)?;
        add_tasks(&mut table, &plan.probe.tasks)?;
        if rows.is_empty() {
            rows = sample(&table.ids);
        }
        if rows.len() < FEWEST_MAPPED || first.as_ref().is_some_and(|f| f.ids != table.ids) {
            return Ok(None);
        }
        let features =
            Features::new(table.width(), std::mem::take(&mut table.vectors))?.rows(&rows);
        let places = umap(&features, &config)?;
        let trust = trustworthiness(&features, &places, config.neighbours)?;
        trusted.push(format!("{title} {}", fixed(trust, 3)));
        drawn.push(MapColumn { title: title.clone(), places });
        first.get_or_insert(table);
    }
    let properties = first.map_or_else(Vec::new, |table| properties(&table, &rows, &plan.probe));
    if properties.is_empty() {
        return Ok(None);
    }
    let caption = format!(
        "Two-dimensional maps of the embeddings of {} objects, drawn by a hash of their ids, on \
         which near objects stay near (UMAP: {} neighbours, min_dist {}, seed {}); hexagons have the \
         colour of their objects’ mean. Trustworthiness for {} neighbours, 1 at best: {}.",
        count(rows.len() as u64),
        config.neighbours,
        significant(config.min_dist, 1),
        config.seed,
        config.neighbours,
        trusted.join(", ")
    );
    let svg = property_maps(&PropertyMaps { columns: drawn, properties, bins: 0 });
    let title = "Maps of the embeddings by property".into();
    Ok(Some(Figure { name: "maps", title, caption, svg }))
}

/// At most [`MAPPED`] rows, the same for the same ids.
fn sample(ids: &[String]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..ids.len()).collect();
    rows.sort_by(|&a, &b| {
        unit_hash(&ids[a], 0).total_cmp(&unit_hash(&ids[b], 0)).then_with(|| ids[a].cmp(&ids[b]))
    });
    rows.truncate(MAPPED);
    rows.sort_unstable();
    rows
}

/// What maps are coloured by: the first of the probed labels that are numbers and vary.
fn properties(table: &Embeddings, rows: &[usize], probe: &ProbeConfig) -> Vec<MapProperty> {
    let columns = table.columns();
    let asked = asked_labels(table, &probe.labels, &probe.tasks);
    let names: Vec<&String> =
        if asked.is_empty() { columns.keys().collect() } else { asked.iter().collect() };
    let property = |name: &String| {
        if columns.get(name) != Some(&LabelKind::Number) {
            return None;
        }
        let (all, valid) = (table.numbers(name), probe.fit.valid.get(name));
        let known = |value: &f64| valid.is_none_or(|valid| valid.knows(*value));
        let value = |&row: &usize| all[row].filter(known).unwrap_or(f64::NAN);
        let values: Vec<f64> = rows.iter().map(value).collect();
        let mut finite = values.iter().filter(|value| value.is_finite());
        let one = finite.next()?;
        finite.any(|other| other != one).then(|| MapProperty {
            name: name.clone(),
            unit: table.units.get(name).cloned().unwrap_or_default(),
            values,
        })
    };
    names.into_iter().filter_map(property).take(PROPERTIES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Label;

    #[test]
    fn maps_are_of_the_tasks_where_no_labels_are_listed() {
        let mut probe = ProbeConfig::default();
        let mut table = Embeddings::new(&[1], Default::default());
        for k in 0..3 {
            let number = |name: &str, value| (name.to_owned(), Label::Number(value));
            let labels = [number("a", f64::from(k)), number("mag", f64::from(2 * k))];
            table.push(&format!("o{k}"), "test", labels.into(), &[0.0]).expect("a row");
        }
        let names = |table: &Embeddings, probe: &ProbeConfig| -> Vec<String> {
            properties(table, &[0, 1, 2], probe).into_iter().map(|map| map.name).collect()
        };
        assert_eq!(names(&table, &probe), ["a", "mag"]);
        let task = "mag - a".parse().expect("a task");
        probe.tasks.insert("difference".into(), task);
        add_tasks(&mut table, &probe.tasks).expect("one unit");
        assert_eq!(names(&table, &probe), ["difference"]);
        probe.labels = vec!["mag".into()];
        assert_eq!(names(&table, &probe), ["mag"]);
    }

    #[test]
    fn a_sample_depends_on_ids_alone() {
        let ids: Vec<String> = (0..3000).map(|k| format!("o{k}")).collect();
        let rows = sample(&ids);
        assert_eq!(rows.len(), MAPPED);
        assert!(rows.is_sorted());
        let turned: Vec<String> = ids.iter().rev().cloned().collect();
        let mut again: Vec<usize> = sample(&turned).iter().map(|row| 2999 - row).collect();
        again.sort_unstable();
        assert_eq!(rows, again);
    }
}
