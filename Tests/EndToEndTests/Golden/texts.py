"""The preference pairs of these tests: small talk with a help desk, written for them. Only the lengths and the bytes matter."""

QUESTIONS = [
    ("How do I reset the router?", "Hold the small button on the back for ten seconds, then wait until the light is green again.",
     "Please contact support."),
    ("My order 4711 has not arrived.", "I am sorry. It left the warehouse on Monday; the carrier expects it tomorrow before noon.",
     "Orders sometimes take a while."),
    ("Can I pay in two parts?", "Yes: half now, half in thirty days, at no extra cost. Choose \"split\" at the checkout.", "Yes."),
    ("The lid of the kettle does not close.", "Take out the filter and press it in until it clicks; a loose filter keeps the lid up.",
     "That is strange, it should close. Have you tried closing it again, perhaps a little harder than before?"),
    ("Wo ist meine Rechnung?", "Unter »Konto → Bestellungen«; über das PDF-Zeichen laden Sie sie herunter.", "In Ihrem Konto, schätze ich."),
    ("What does error E-07 mean?", "The water tank is empty or not seated.\n1. Fill it.\n2. Push it in.\n3. Press start.", "An error."),
    ("I was charged twice 😡", "I see both payments. The second one is cancelled; the money is back in three days.",
     "Banks do that. We cannot help with bank questions, ask your bank."),
    ("Is the jacket waterproof?", "Up to 10,000 mm, taped seams included, but not the zip of the chest pocket.", "It is a good jacket."),
    ("請問何時到貨？", "週三下午以前。", "不知道。"),
    ("Please cancel my subscription.", "Done. It ends on the 30th and nothing more will be charged.", "Why would you want to do that?"),
    ("How long does the battery last?", "About nine hours of video, or two days of light use. Below 0 °C it is less.", "Long."),
    ("The app closes when I open the map.", "That is fixed in version 5.2.1: update, then restart the phone once.",
     "Have you considered using another app, or a paper map, which never closes at all?"),
    ("Do you ship to Iceland?", "We do, in six days; customs add 24 % and are paid on delivery.", "We ship to many countries."),
    ("Can the shoes be returned after wearing them?", "Within a hundred days, worn or not.", "No\n"),
    ("Which cable fits the camera?", "A USB-C cable, 60 W or more; the one of your phone will do.", "The right cable fits."),
    ("My name is spelled wrong on the ticket.", "I can change up to three letters free of charge: how should it read?", "Names do not matter much."),
    ("Does the tent come with pegs?", "With fourteen, and two spare ones.", "Tents need pegs."),
    ("   The screen flickers", "   Set the refresh rate to 60 Hz: Settings, Display, Advanced.", "Screens flicker sometimes, wait and see."),
    ("def total(prices):", "\n    return sum(prices)\n", "\n    pass"),
    ("Is there a student discount?", "Fifteen per cent with a valid card.", "There is a discount for many people, and many people are students."),
]

OPENINGS = ["{}", "Customer: {}\nAgent:", "Good morning. {} ", "<|user|>\n{}<|end|>\n<|agent|>\n"]


def rows():
    """Eighty rows. Openings decide how prompt and completion meet: nothing, a colon, a space that may merge, a special token."""
    for turn in range(4):
        for index, (question, good, bad) in enumerate(QUESTIONS):
            opening = (turn + index) % 4
            space = " " if opening in (0, 1) else ""
            # Now and then both completions begin alike, so that the shared prefix is longer than the prompt.
            start = ["", "", "Well, ", "Thank you for asking. "][(turn * 3 + index) % 4]
            yield {"prompt": OPENINGS[opening].format(question), "chosen": space + start + good, "rejected": space + start + bad}


def conversations():
    """Twenty rows of messages, a few with a system message or several turns."""
    for index, (question, good, bad) in enumerate(QUESTIONS):
        prompt = [{"role": "user", "content": question}]
        if index % 3 == 1:
            prompt = [{"role": "system", "content": "Be brief."}] + prompt
        if index % 5 == 2:
            prompt = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello! How can I help?"}] + prompt
        yield {"prompt": prompt, "chosen": [{"role": "assistant", "content": good}], "rejected": [{"role": "assistant", "content": bad}]}
