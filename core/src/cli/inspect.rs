use super::args::InspectArgs;
use super::output::Output;
use crate::error::Result;
pub(super) fn inspect(_args: &InspectArgs, _output: Output) -> Result<()> { Ok(()) }
