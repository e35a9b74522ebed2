package import Kernels
package import ORPO

/// The configuration in the terms of the modules that do the work.
extension TrainingConfiguration {
  package var objective: ORPOObjective {
    ORPOObjective(alpha: orpoWeight, temperature: orpoTemperature, nllTokens: nllTokens)
  }

  package var stepMemory: ORPOStep.Memory {
    ORPOStep.Memory(rowsPerMicroBatch: rowsPerMicroBatch, checkpointing: gradientCheckpointing)
  }

  package var hyperparameters: AdamW.Hyperparameters {
    AdamW.Hyperparameters(beta1: adamBeta1, beta2: adamBeta2, epsilon: adamEpsilon, weightDecay: weightDecay)
  }
}
