/// The width all kernels are written in: two AVX2 registers or one of AVX-512.
@usableFromInline typealias Lanes = SIMD16<Float>

extension UnsafePointer<Float> {
  @inline(__always) func lanes(_ index: Int) -> Lanes {
    UnsafeRawPointer(self + index).loadUnaligned(as: Lanes.self)
  }
}

extension UnsafeMutablePointer<Float> {
  @inline(__always) func lanes(_ index: Int) -> Lanes {
    UnsafeRawPointer(self + index).loadUnaligned(as: Lanes.self)
  }

  @inline(__always) func store(_ value: Lanes, _ index: Int) {
    UnsafeMutableRawPointer(self + index).storeBytes(of: value, as: Lanes.self)
  }
}

extension SIMD16<Float> {
  /// Sum of the lanes by halves, so that the order is fixed and the compiler keeps it in registers.
  @inline(__always) var total: Float {
    let eight = lowHalf + highHalf
    let four = eight.lowHalf + eight.highHalf
    let two = four.lowHalf + four.highHalf
    return two.x + two.y
  }

  @inline(__always) var largest: Float {
    let eight = lowHalf.replacing(with: highHalf, where: highHalf .> lowHalf)
    let four = eight.lowHalf.replacing(with: eight.highHalf, where: eight.highHalf .> eight.lowHalf)
    return Swift.max(Swift.max(four.x, four.y), Swift.max(four.z, four.w))
  }
}

/// e^x to 2 units in the last place for x in [-87.3, 88.3]; arguments outside are clamped to it.
///
/// x = n ln2 + r with |r| <= ln2 / 2, then a polynomial for e^r and n added to the exponent bits.
@inline(__always) func exponential(_ x: Lanes) -> Lanes {
  var clamped = x.replacing(with: 88.3, where: x .> 88.3)
  clamped.replace(with: -87.3, where: clamped .< -87.3)
  // Adding 1.5 x 2^23 rounds to an integer and leaves it in the low bits.
  let shifted = Lanes(repeating: 12_582_912).addingProduct(clamped, Lanes(repeating: 1.442_695_04))
  let n = shifted - Lanes(repeating: 12_582_912)
  let r = clamped.addingProduct(n, Lanes(repeating: -0.693_359_375)).addingProduct(n, Lanes(repeating: 2.121_944_4e-4))
  var p = Lanes(repeating: 1.987_569_15e-4)
  p = Lanes(repeating: 1.398_199_95e-3).addingProduct(p, r)
  p = Lanes(repeating: 8.333_451_9e-3).addingProduct(p, r)
  p = Lanes(repeating: 4.166_579_6e-2).addingProduct(p, r)
  p = Lanes(repeating: 1.666_666_55e-1).addingProduct(p, r)
  p = Lanes(repeating: 5.000_000_1e-1).addingProduct(p, r)
  let result = (Lanes(repeating: 1) + r).addingProduct(p, r * r)
  let exponent = unsafeBitCast(shifted, to: SIMD16<Int32>.self) &<< SIMD16<Int32>(repeating: 23)
  return unsafeBitCast(unsafeBitCast(result, to: SIMD16<Int32>.self) &+ exponent, to: Lanes.self)
}

@inline(__always) func exponential(_ x: Float) -> Float { exponential(Lanes(repeating: x))[0] }

/// Loads up to 16 values; missing lanes hold `fill`.
@inline(__always) func partialLanes(_ source: UnsafePointer<Float>, count: Int, fill: Float) -> Lanes {
  var lanes = Lanes(repeating: fill)
  for i in 0..<count { lanes[i] = source[i] }
  return lanes
}

/// Small vector operations over contiguous memory that several kernels and layers above share.
package enum Vectors {
  /// `y += x`.
  package static func add(_ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, count: Int) {
    var i = 0
    while i + 16 <= count {
      y.store(y.lanes(i) + x.lanes(i), i)
      i += 16
    }
    while i < count {
      y[i] += x[i]
      i += 1
    }
  }

  /// Sum of `x[i] * y[i]`.
  package static func dot(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, count: Int) -> Float {
    var sum = Lanes.zero
    var i = 0
    while i + 16 <= count {
      sum.addProduct(x.lanes(i), y.lanes(i))
      i += 16
    }
    var rest: Float = 0
    while i < count {
      rest += x[i] * y[i]
      i += 1
    }
    return sum.total + rest
  }

  /// Largest value; `-infinity` for none.
  package static func largest(_ x: UnsafePointer<Float>, count: Int) -> Float {
    var largest = Lanes(repeating: -.infinity)
    var i = 0
    while i + 16 <= count {
      // `pointwiseMax` compiles to one comparison per lane; a mask and a blend are two instructions.
      let lanes = x.lanes(i)
      largest.replace(with: lanes, where: lanes .> largest)
      i += 16
    }
    var result = largest.largest
    while i < count {
      result = max(result, x[i])
      i += 1
    }
    return result
  }

  /// Replaces x by e^(x - shift) and returns the sum.
  package static func exponentiate(_ x: UnsafeMutablePointer<Float>, count: Int, shift: Float) -> Float {
    let shift = Lanes(repeating: shift)
    var sum = Lanes.zero
    var i = 0
    while i + 16 <= count {
      let value = exponential(x.lanes(i) - shift)
      x.store(value, i)
      sum += value
      i += 16
    }
    var rest: Float = 0
    while i < count {
      x[i] = exponential(x[i] - shift[0])
      rest += x[i]
      i += 1
    }
    return sum.total + rest
  }

  /// Sum of e^(x - shift), x unchanged.
  package static func exponentialSum(_ x: UnsafePointer<Float>, count: Int, shift: Float) -> Float {
    let shift = Lanes(repeating: shift)
    var sum = Lanes.zero
    var i = 0
    while i + 16 <= count {
      sum += exponential(x.lanes(i) - shift)
      i += 16
    }
    var rest: Float = 0
    while i < count {
      rest += exponential(x[i] - shift[0])
      i += 1
    }
    return sum.total + rest
  }

  /// `x *= factor`.
  package static func scale(_ x: UnsafeMutablePointer<Float>, count: Int, by factor: Float) {
    var i = 0
    while i + 16 <= count {
      x.store(x.lanes(i) * factor, i)
      i += 16
    }
    while i < count {
      x[i] *= factor
      i += 1
    }
  }
}
