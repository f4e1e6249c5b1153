//! Where figures about the machine come from.

#[cfg(feature = "cuda")]
mod device;
mod host;

use std::path::Path;

use crate::model::Config;

impl Config {
    /// Budgets for this machine, as [`Config::for_machine`] makes them: its GPUs, available host memory within the
    /// control group's limit, the cores this process may use, and the whole of attention.
    ///
    /// With the feature `cuda` its GPUs are those that the CUDA driver reports, in the driver's order: budget
    /// [`gpu(n)`](crate::BudgetId::gpu) is that of device n. There are none where there is no driver, and, with a
    /// line in the log (target `bursar::detect`), where it does not answer. Without the feature nobody looks for them,
    /// and there is one that is simulated.
    ///
    /// Reads a handful of small files under /proc and /sys, which takes well under a millisecond. The driver takes up
    /// to a second when it is first asked. Blocks meanwhile.
    ///
    /// ```
    /// let config = bursar::Config::detect();
    /// assert!(config.check().is_ok());
    /// ```
    pub fn detect() -> Self {
        let machine = host::detect(Path::new("/"));
        #[cfg(feature = "cuda")]
        let machine = machine.with_gpus(device::memories(crate::memory::CudaDevice::all()));
        Config::for_machine(machine)
    }
}
