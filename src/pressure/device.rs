//! What GPUs the machine has.

use crate::memory::{CudaDevice, CudaError};
use crate::model::Bytes;

/// The memory of every device, by its number. A machine without a driver is one without devices; a driver that fails
/// is somebody's trouble, and is told in the log.
pub(super) fn memories(devices: Result<Vec<CudaDevice>, CudaError>) -> Vec<Bytes> {
    match devices {
        Ok(devices) => devices.iter().map(|device| Bytes(device.memory)).collect(),
        Err(error @ CudaError::NoDriver { .. }) => {
            tracing::debug!(target: "bursar::detect", %error, "no GPU was looked for");
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(target: "bursar::detect", %error, "GPUs are left out: the CUDA driver does not answer");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::model::{BudgetId, Config, GIB, Machine};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is found, and what is said above the level for those who look for faults in this program.
    fn found(devices: Result<Vec<CudaDevice>, CudaError>) -> (Vec<Bytes>, String) {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let memories = tracing::subscriber::with_default(lines, || memories(devices));
        let said = log.0.lock().expect("no panic").clone();
        (memories, String::from_utf8(said).expect("text"))
    }

    fn device(ordinal: usize, memory: u64) -> CudaDevice {
        CudaDevice { ordinal, name: "H200".into(), memory, uuid: [ordinal as u8; 16] }
    }

    #[test]
    fn every_device_counts_with_all_of_its_memory() {
        let (memories, said) = found(Ok(vec![device(0, 140 * GIB), device(1, 80 * GIB)]));
        assert_eq!((&memories[..], said.as_str()), (&[Bytes(140 * GIB), Bytes(80 * GIB)][..], ""));
        assert_eq!(found(Ok(Vec::new())), (Vec::new(), String::new()));
    }

    #[test]
    fn no_driver_is_no_gpu_and_nothing_to_speak_of() {
        let reason = "libcuda.so.1: cannot open shared object file".to_owned();
        assert_eq!(found(Err(CudaError::NoDriver { reason })), (Vec::new(), String::new()));
        let config = Config::for_machine(Machine::new(GIB, 1).with_gpus(Vec::new()));
        assert!(config.check().is_ok() && config.budget(BudgetId::GPU).is_none());
    }

    #[test]
    fn a_driver_that_fails_is_no_gpu_and_a_line_in_the_log() {
        let failed = CudaError::Driver { call: "cuInit", reason: "unknown error".into() };
        let (memories, said) = found(Err(failed));
        assert_eq!(memories, []);
        assert!(said.contains("WARN bursar::detect") && said.contains("cuInit failed: unknown error"), "{said}");
    }

    #[test]
    fn a_detected_machine_has_the_devices_that_the_driver_reports() {
        let config = Config::detect();
        config.check().expect("what was detected can be run");
        let devices = CudaDevice::all().unwrap_or_default();
        for number in 0..16 {
            let id = BudgetId::gpu(number).expect("one of sixteen");
            assert_eq!(config.budget(id).is_some(), usize::from(number) < devices.len(), "{id}");
        }
    }
}
