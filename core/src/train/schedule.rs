//! The learning rate of each step.

use crate::recipe::TrainConfig;

/// Learning rate of step `step` (from 0): linear warm-up from 0, cosine from the peak to
/// the floor at `decay_steps`, flat after.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let TrainConfig { peak_lr, final_lr, warmup_steps, decay_steps, .. } = *config;
    if step < warmup_steps {
        return peak_lr * step as f64 / warmup_steps as f64;
    }
    if step >= decay_steps {
        return final_lr;
    }
    let through = (step - warmup_steps) as f64 / (decay_steps - warmup_steps) as f64;
    final_lr + 0.5 * (1.0 + (std::f64::consts::PI * through).cos()) * (peak_lr - final_lr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_schedule() {
        let config: TrainConfig = toml::from_str(
            "steps = 30000\nbatch = 1\nmicro_batch = 1\npeak_lr = 6e-4\nfinal_lr = 6e-5\n\
             warmup_steps = 2000\ndecay_steps = 29700\nweight_decay = 0.1\nclip = 1.0\n\
             eval_every = 1000\neval_batches = 200",
        )
        .expect("a valid table");
        let at = |step| learning_rate(&config, step);
        assert_eq!(at(0), 0.0);
        assert_eq!(at(1000), 3e-4);
        assert_eq!(at(2000), 6e-4);
        assert!((at(15_850) - 3.3e-4).abs() < 1e-12, "half-way between peak and floor");
        assert_eq!(at(29_700), 6e-5);
        assert_eq!(at(40_000), 6e-5);
    }
}
