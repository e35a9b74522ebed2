import Packing
import Preferences
import Tokenization

/// Preference pairs that are part of the program, so that the self-check needs no file: a request, a reply that helps,
/// a reply that only sounds as if it did.
enum BuiltInPairs {
  static let texts: [PreferenceText] = [
    pair("My kettle trips the fuse.", "Unplug it and dry the base.", "Kettles are great."),
    pair("The parcel came without the cable.", "I send the cable out today.", "Have you looked?"),
    pair("How do I reset the router?", "Hold the back button for ten seconds.", "Routers can be reset."),
    pair("I was charged twice in May.", "I refund the second charge now.", "Charges may vary."),
    pair("The zip of my coat broke.", "We repair it free within two years.", "That is a pity."),
    pair("Can I move my booking to Friday?", "Yes, Friday at nine is free.", "Bookings can be moved."),
    pair("My screen stays black.", "Press the power key for fifteen seconds.", "Please try again later."),
    pair("The soup arrived cold.", "I am sorry. A fresh one is on its way.", "Soup cools down."),
    pair("Where is the serial number?", "On the label under the battery.", "It is on the device."),
    pair("The app forgets my password.", "Allow it to save logins in Settings.", "Use a good password."),
    pair("Does this lamp take E27 bulbs?", "Yes, E27 up to 60 watts.", "It takes bulbs."),
    pair("My bike chain squeaks.", "Clean it and put on two drops of oil.", "Bikes make noises."),
    pair("I lost my warranty card.", "The receipt is enough, send me a photo.", "Keep cards safe."),
    pair("The printer shows error 42.", "Open the rear flap and pull the paper.", "Errors can happen."),
    pair("Can I wash the rug?", "By hand, at thirty degrees at most.", "Rugs get dirty."),
    pair("My phone is hot while charging.", "Use the charger that came with it.", "Phones get warm."),
    pair("The train was late, what now?", "Over an hour late: half is paid back.", "Trains run often."),
    pair("The tent leaks at the seam.", "Seal it from inside, let it dry a day.", "Rain is wet."),
    pair("I need the invoice again.", "It is in your mailbox now.", "You had an invoice."),
    pair("How long does the paint dry?", "Four hours, a second coat after that.", "Until it is dry."),
    pair("The door of the oven sticks.", "Loosen the lower hinge by half a turn.", "Ovens have doors."),
    pair("My order still says pending.", "It is packed and leaves at noon.", "Orders take time."),
    pair("Is the cream free of nuts?", "Yes, and no nuts are near the line.", "Please read the label."),
    pair("The keyboard types twice.", "Set the repeat delay to long.", "Type more slowly."),
  ]

  private static func pair(_ request: String, _ helpful: String, _ empty: String) -> PreferenceText {
    PreferenceText(prompt: request, chosen: " " + helpful, rejected: " " + empty)
  }

  /// As many pairs of the length that conversations have, a hundred tokens of prompt and two hundred of reply or so: each
  /// of several requests and their replies, one after the other.
  static var long: [PreferenceText] {
    func joined(_ first: Int, _ count: Int, _ part: KeyPath<PreferenceText, String>) -> String {
      (0..<count).map { texts[(first + $0) % texts.count][keyPath: part] }.joined(separator: " ")
    }
    return texts.indices.map {
      PreferenceText(
        prompt: joined($0, 12, \.prompt), chosen: joined($0, 20, \.chosen), rejected: joined($0, 20, \.rejected))
    }
  }

  /// The pairs as tokens, by the same rule as any other data.
  static func tokenized(
    _ texts: [PreferenceText] = texts, with tokenizer: Tokenizer, truncation: TokenTruncation = TokenTruncation()
  ) throws -> [TokenizedPair] {
    let pairs = try PairTokenizer(encoding: TextEncoding(tokenizer), truncation: truncation)
    return try texts.enumerated().map { index, text in
      try pairs.tokenize(text, at: RowLocation(file: "built-in pairs", line: index + 1)).get().pair
    }
  }
}
