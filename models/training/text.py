"""The text the bundled model learns from: short chats and stories written by a grammar.

A document is a list of (role, text) turns; role is system, user, assistant, or text for a plain story. Options that start with "!" are
held out: training never sees them, `Writer(seed, 'templates')` prefers them. `Writer(seed, 'names')` draws only names, objects and
pairs of words that training never sees.
"""

import random
import re
import zlib

import knowledge as k
import stories as s
import words as w

VOWEL = re.compile('[aeiou]|honest|hour', re.I)
CHOICE = re.compile(r'\[([^\[\]]*)\]')
LETTERED = {'NAS', 'PLC'}
PREPOSITIONS = {'on': 'hill mountain island beach farm playground'.split(), 'at': 'station harbour river lake'.split()}
SYSTEM = ['You are a helpful assistant.', 'You are a small language model that runs across several devices.', 'Answer briefly.', 'You help people with the devices of a home or a factory.',
          'You are a friendly assistant for a smart home.', 'You are an assistant for factory workers.', 'Be kind and short.']


def a(noun):
    """The noun with its article: 'an oven', 'a NAS'."""
    return f'{"an" if VOWEL.match(noun) else "a"} {noun}'


def cap(text):
    """The text with a capital at its start and after each full stop."""
    text = text[:1].upper() + text[1:]
    return re.sub(r'([.?!] )([a-z])', lambda m: m[1] + m[2].upper(), text)


def lower_first(text):
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def listing(parts):
    """'a', 'a and b', 'a, b and c'."""
    return parts[0] if len(parts) == 1 else f'{", ".join(parts[:-1])} and {parts[-1]}'


def held_pair(first, second):
    """Whether a pair of words is kept out of training, one pair in ten."""
    return zlib.crc32(f'{first} {second}'.encode()) % 10 == 0


class Who:
    """Somebody in a story: how to introduce, name and replace them by a pronoun."""

    def __init__(self, intro, ref, gender, asked=None):
        self.intro, self.ref, self.asked = intro, ref, asked or intro
        self.he, self.him, self.his = {'f': ('she', 'her', 'her'), 'm': ('he', 'him', 'his'), 'n': ('it', 'it', 'its')}[gender]


class Writer:
    def __init__(self, seed, mode='train'):
        """mode: 'train', 'templates' (held-out wordings) or 'names' (held-out names, objects and pairs)."""
        self.r, self.mode, self.fresh, self.used_held = random.Random(seed), mode, False, False

    # -- words ---------------------------------------------------------------------------------------------------

    def chance(self, p):
        return self.r.random() < p

    def pick(self, options):
        """One option with its [a|b] choices made; '!' options only where held-out wordings are asked for."""
        held = [o for o in options if o[:1] == '!']
        if self.mode == 'templates' and held:
            self.used_held = True
            text = self.r.choice(held)[1:]
        else:
            text = self.r.choice([o for o in options if o[:1] != '!'] if held else options)
        while '[' in text:
            text = CHOICE.sub(lambda m: self.r.choice(m[1].split('|')), text)
        return text

    def pseudo(self):
        """A made-up word of two or three syllables, so that copying cannot be learned by heart."""
        self.fresh = True
        onset, vowel, coda = 'b c d f g h k l m n p r s t v w z br dr gl kr pl st tr th sh fl gr'.split(), 'a e i o u a e i o ai ee oo'.split(), ['', '', '', 'n', 'r', 'l', 's', 'm', 't', 'x', 'nd', 'ck']
        return ''.join(self.r.choice(onset) + self.r.choice(vowel) + (self.r.choice(coda) if i or self.chance(0.3) else '') for i in range(self.r.choice([2, 2, 2, 3])))

    def from_list(self, words):
        """One word; the last HELD are for mode 'names' only."""
        return self.r.choice(words[-w.HELD:] if self.mode == 'names' else words[:-w.HELD])

    def name(self, pseudo=0.12):
        """A first name and its gender, f or m."""
        gender = self.r.choice('fm')
        if self.mode == 'train' and self.chance(pseudo):
            return self.pseudo().capitalize(), gender
        return self.from_list(w.GIRLS if gender == 'f' else w.BOYS), gender

    def names(self, n):
        found = {}
        while len(found) < n:
            found[self.name()[0]] = 1
        return list(found)

    def noun(self, words=None):
        if self.mode == 'train' and self.chance(0.12):
            return self.pseudo()
        return self.from_list(words or w.OBJECTS)

    def pair(self, first, words):
        """An adjective and a noun; pairs held out from training only in mode 'names'."""
        while True:
            x, y = self.r.choice(first), self.noun(words)
            if self.mode == 'templates' or held_pair(x, y) == (self.mode == 'names'):
                return f'{x} {y}'

    def thing(self, adjective=0.5):
        return self.pair(w.ADJECTIVES, w.OBJECTS) if self.chance(adjective) else self.noun(w.GADGETS if self.chance(0.1) and self.mode != 'names' else w.OBJECTS)

    def room(self):
        """A place with its preposition: 'in hall 3'."""
        r = self.r
        return self.pick([f'in the {r.choice(w.ROOMS)}', f'in the {r.choice(w.ROOMS)}', f'in hall {r.randint(1, 40)}', f'in hall {r.choice("ABCDEFGH")}', f'on line {r.randint(1, 30)}', f'at gate {r.randint(1, 20)}',
                          f'in room {r.randint(1, 320)}', f'on floor {r.randint(1, 12)}', f'at station {r.randint(1, 50)}', f'in the {self.pseudo() if self.chance(0.5) else self.name()[0]} room', f'in cell {r.randint(1, 30)}', f'in building {r.randint(1, 20)}'])

    def gadget(self):
        """A device as one would name it, without article: 'fan', 'green fan in the kitchen', 'pump 7'."""
        r = self.r
        while True:
            noun = self.pseudo() if self.mode == 'train' and self.chance(0.08) else self.r.choice(w.GADGETS)
            room = self.room()
            if self.mode != 'templates' and held_pair(noun, room) != (self.mode == 'names'):
                continue
            form = r.random()
            if form < 0.3:
                return noun if self.mode != 'names' else f'{noun} {room}'
            if form < 0.7:
                return f'{noun} {room}'
            if form < 0.8:
                return f'{noun} {r.randint(1, 60)}'
            if form < 0.85:
                return f'{noun} {r.choice("ABCDEFGHKMPRTX")}{r.randint(1, 99)}'
            return self.pair(w.ADJECTIVES, [noun] * (w.HELD + 1)) if self.mode == 'train' else f'{r.choice(w.ADJECTIVES)} {noun}'

    def gadgets(self, n):
        """n devices of which no name is part of another's."""
        found = []
        while len(found) < n:
            new = self.gadget()
            if not any(new in old or old in new for old in found):
                found.append(new)
        return found

    def quantity(self):
        """A property, its value and unit: ('speed', '40', 'percent')."""
        name, unit, low, high = self.r.choice(w.QUANTITIES)
        value = self.r.randint(low, high)
        if value > 200 and self.chance(0.6):
            value -= value % 50
        return name, (f'{value}.{self.r.randint(1, 9)}' if value < 50 and self.chance(0.06) else str(value)), unit

    def user(self, text):
        """A user's turn, now and then in lower case or without its last mark."""
        p = self.r.random()
        if p < 0.12 and not self.fresh:
            text = text.lower().rstrip('.?!')
        elif p < 0.2:
            text = lower_first(text).rstrip('.?!') if not text.startswith('I ') else text
        elif p < 0.28:
            text = text.rstrip('.?!')
        elif p < 0.33:
            hello, mark = self.pick(['Hello', 'Hi', 'Hey', 'Please help me', 'One question', 'Okay', 'Thanks']), self.r.choice([', ', '. ', '! '])
            text = f'{hello}{mark}{lower_first(text) if mark == ", " and text.split()[0] in STARTS else text}'
        elif p < 0.36:
            text = f'{text.rstrip(".")}{self.r.choice([" Please.", " Thank you.", " Thanks!"])}' if text[-1] == '?' else f'{text.rstrip(".")}, please.'
        return 'user', text

    def answer(self, text):
        return 'assistant', text

    def ask(self, question, reply):
        return [self.user(cap(question)), self.answer(cap(reply))]

    # -- devices -------------------------------------------------------------------------------------------------

    def device_what(self):
        name, _, does, how, *_ = self.r.choice(k.DEVICES)
        n, p = a(name), f'{name}s'
        q = self.pick([f'What is {n}?', f'What does {n} do?', f'What does {n} do?', f'What is {n} for?', f'What [are {p}|is {n}] used for?', f'Tell me about {p}.', f'Explain what {n} is.', f'Why do people use {n}?', f'What is the job of {n}?', f'Can you [explain|tell me] what {n} does?',
                       f'Why do I need {n}?', f'Describe {n}.', f'What can {n} do?', f'Do you know what {n} is?', f'I have never heard of {p}. What do they do?', f'[What\'s|What is] {n}, [please|in short|in simple words]?', f'What is the purpose of {n}?', f'Define {name}.',
                       f'I want to know what {n} does.', f'What is {n} good for?', f'{name}?', f'What is {n} and what does it do?', f'!In a few words, what does {n} do?', f'!What is the use of {n}?', f'!Could you describe what {n} is for?'])
        return self.ask(q, f'{n} {does}.' + (f' {how}' if self.chance(0.7) else '')), [does[:12]]

    def device_how(self):
        name, _, does, how, where, care, problems = self.r.choice(k.DEVICES)
        n = a(name)
        kind = self.r.randrange(3)
        if kind == 0:
            q = self.pick([f'How does {n} work?', f'[Explain|Tell me|Describe] how {n} works.', f'Can you [explain|tell me] how {n} works?', f'What happens inside {n}?', f'How do {name}s work?', f'I do not understand how {n} works.', f'How does {n} do its job?', f'[How does my|How does the|How does this] {name} work?',
                           f'!What is the principle of {n}?', f'!Please explain the way {n} works.'])
            return self.ask(q, f'{n} {does}. {how}'), [how[3:15]]
        if kind == 1:
            q = self.pick([f'Where is {n} used?', f'Where do you find {n}?', f'Where can I find {n}?', f'Where do people use {name}s?', f'Where should {n} be?', f'Where are {name}s used?', f'In which place is {n} used?', f'!Where would I see {n}?'])
            return self.ask(q, f'{n} is used {where}.'), [where]
        q = self.pick([f'How do I [look after|take care of|maintain|care for] {n}?', f'How should I [look after|maintain|care for] [my|the|a] {name}?', f'What maintenance does {n} need?', f'How can I keep my {name} in good shape?', f'Give me a tip for my {name}.', f'How do I make my {name} last longer?', f'How often should I check my {name}?',
                       f'[Do you have a tip|Any tips|Any advice] for [my|the] {name}?', f'!What should I do so that my {name} lasts long?', f'!How is {n} maintained?'])
        return self.ask(q, f'to look after {n}, {care}.'), [care]

    def device_problem(self):
        name, site, does, how, where, care, problems = self.r.choice(k.DEVICES)
        bad, cause, fix = self.r.choice(problems)
        d = f'{self.pick(["my", "the", "our", "the", "my"])} {name}{f" {self.room()}" if self.chance(0.25) else ""}'
        if self.chance(0.2):
            q = self.pick([f'What can go wrong with {n}?' for n in [a(name)]] + [f'What problems can {a(name)} have?', f'Why does {a(name)} fail?', f'!Which faults does {a(name)} have?'])
            more = f' It may also happen that it {problems[1][0]}, because {problems[1][1]}.' if len(problems) > 1 else ''
            return self.ask(q, f'sometimes {a(name)} {problems[0][0]}, because {problems[0][1]}.{more}'), [problems[0][0]]
        q = self.pick([f'{d} {bad}. What should I do?', f'{d} {bad}.', f'{d} {bad}, what [can|should|do] I do?', f'What should I do [if|when] {d} {bad}?', f'{d} {bad}. [How do I fix it|How can I fix this|Can you help|What is wrong|Why|Any ideas|Help]?', f'What [can|do] I do when {d} {bad}?', f'Help! {d} {bad}.',
                       f'[There is a problem|I have a problem|We have a problem]: {d} {bad}.', f'Why is it that {d} {bad}?', f'{d} {bad} and I do not know why.', f'[Since yesterday|Since this morning|Today], {d} {bad}. What [is wrong|now|can it be]?', f'!It seems that {d} {bad}. What would you do?', f'!{d} {bad}, what now?'])
        return self.ask(q, f'{cause}. {fix}.'), [cause[6:18], fix[:12]]

    def device_pairs(self):
        while True:
            x, y = self.r.sample(k.DEVICES, 2)
            if self.mode == 'templates' or held_pair(x[0], y[0]) == (self.mode == 'names'):
                break
        n, m = a(x[0]), a(y[0])
        kind = self.r.randrange(5)
        if kind <= 1:
            q = self.pick([f'What is the difference between {n} and {m}?', f'[Compare|Please compare] {n} and {m}.', f'How is {n} different from {m}?', f'How do {n} and {m} differ?', f'{n} or {m}, what is the difference?', f'[What does {n} do and what does {m} do|What do {n} and {m} do]?', f'Is {n} the same as {m}?',
                           f'!In what way does {n} differ from {m}?', f'!Are {n} and {m} the same thing?'])
            start = 'No. ' if q[:2] in ('Is', 'Ar') else ''
            return self.ask(q, f'{start}{n} {x[2]}, while {m} {y[2]}.'), [x[2], y[2]]
        if kind == 2:
            q = self.pick([f'Which device {x[2]}?', f'What {x[2]}?', f'What is the name of a device that {x[2]}?', f'I need something that {x[2]}.', f'What do you call a device that {x[2]}?', f'Name a device that {x[2]}.', f'!Do you know a machine that {x[2]}?'])
            return self.ask(q, f'{n} {x[2]}.'), [n]
        doer = x if self.chance(0.5) else y
        other = y if doer is x else x
        verb = f'Is it true that {a(doer[0])} {x[2]}?'
        q = self.pick([verb, f'Someone told me that {a(doer[0])} {x[2]}. Is that right?', f'{a(doer[0])} {x[2]}. Is that correct?', f'True or false: {a(doer[0])} {x[2]}.', f'!I think that {a(doer[0])} {x[2]}. Am I right?'])
        if doer is x:
            return self.ask(q, f'yes, {n} {x[2]}.'), ['yes', x[2]]
        return self.ask(q, f'no, {m} {y[2]}. {n} {x[2]}.'), ['no,', y[2]]

    def symptom(self):
        bad, advice = self.r.choice(k.SYMPTOMS)
        d, bad = self.gadget(), self.pick([bad])
        whose = self.pick(['The', 'The', 'The', 'My', 'Our'])
        q = self.pick([f'{whose} {d} {bad}. What should I do?', f'{whose} {d} {bad}. What should I do?', f'{whose} {d} {bad}. How can I fix it?', f'{whose} {d} {bad}.', f'The {d} {bad}, what should I do?', f'The {d} {bad}. What [can|do] I do?', f'The {d} {bad}.', f'What should I do [if|when] the {d} {bad}?', f'Help, the {d} {bad}!', f'The {d} {bad}. [Can you help me|Any ideas|What is wrong|How do I fix it]?',
                       f'[Since today|Since last night|Suddenly] the {d} {bad}.', f'Why is it that the {d} {bad}?', f'I think the {d} {bad}. [What now|What to do]?', f'We have a problem. The {d} {bad}.', f'!The {d} {bad}. How do I solve this?', f'!What would you do if the {d} {bad}?'])
        return self.ask(q, self.pick(advice).replace('{d}', d)), [d]

    def advice(self):
        goal, tips = self.r.choice(k.ADVICE)
        n = self.r.choice([1, 2, 3, 3]) if len(tips) > 2 else 2
        chosen = self.r.sample(tips, min(n, len(tips)))
        if self.chance(0.25) and len(tips) >= 3:
            count, chosen = 'three', self.r.sample(tips, 3)
            q = self.pick([f'Give me {count} tips to {goal}.', f'[List|Name|Write] {count} ways to {goal}.', f'[Give me|I need] {count} tips on how to {goal}.', f'What are {count} ways to {goal}?', f'!Please write down {count} tips to {goal}.'])
            return self.ask(q, 'here are three tips:\n' + '\n'.join(f'{i + 1}. {cap(t)}.' for i, t in enumerate(chosen))), ['1.', '3.']
        q = self.pick([f'How do I {goal}?', f'How can I {goal}?', f'How can we {goal}?', f'What is the best way to {goal}?', f'Give me [a tip|some tips|advice] on how to {goal}.', f'I want to {goal}. What should I do?', f'[Any ideas|Any tips|Do you have tips] on how to {goal}?', f'What helps to {goal}?', f'What can I do to {goal}?',
                       f'Tell me how to {goal}.', f'How should I {goal}?', f'What should I do to {goal}?', f'How does one {goal}?', f'[Can|Could] you tell me how to {goal}?', f'Is there a [good|simple] way to {goal}?', f'!What would you do to {goal}?', f'!I would like to {goal}. How?'])
        reply = f'to {goal}, {chosen[0]}' + (f' and {chosen[1]}' if len(chosen) > 1 else '') + '.' + (f' [You can also|It also helps to] {chosen[2]}.' if len(chosen) > 2 else '')
        return self.ask(q, self.pick([reply])), [goal]

    def concept(self):
        name, first, second = self.r.choice(k.CONCEPTS)
        bare = re.sub('^(a|an|the) ', '', name)
        q = self.pick([f'What is {name}?', f'What is {name}?', f'What does "{bare}" mean?', f'[Explain|Please explain|Describe] {name}.', f'Tell me about {name}.', f'Can you [explain|tell me] what {name} is?', f'What do you mean by {name}?', f'What exactly is {name}?', f'Define {bare}.', f'What is {name}, in simple words?', f'!How would you explain {name}?', f'!What do people mean by {name}?'])
        return self.ask(q, f'{first}. {second}.'), [first[-15:]]

    # -- state ---------------------------------------------------------------------------------------------------

    def conversation(self):
        """Commands to one to three devices and a question about one of them."""
        devices = self.gadgets(self.r.choice([1, 1, 2, 2, 3]))
        turns, state, value = [], {}, {}
        for step in range(self.r.randint(1, 4)):
            d = devices[step] if step < len(devices) else self.r.choice(devices)
            ref = 'it' if turns and last == d and self.chance(0.5) else f'the {d}'
            last = d
            if self.chance(0.5):
                verb, st = self.r.choice(w.COMMANDS)
                verb = self.pick([verb])
                split = verb.split()
                phrase = f'{split[0]} {ref} {split[1]}' if len(split) == 2 and (self.chance(0.35) or ref == 'it') else f'{verb} {ref}'
                q = self.pick([f'{phrase}.', f'{phrase}.', f'Please {phrase}.', f'[Can|Could] you {phrase}?', f'{phrase} now.', f'[I want you to|You should] {phrase}.', f'!Would you please {phrase}?'])
                state[d] = st
                reply = self.pick([f'Done. The {d} is now {st}.', f'Okay. The {d} is now {st}.'])
            else:
                prop, v, unit = self.quantity()
                q = self.pick([f'Set the {prop} of {ref} to {v} {unit}.', f'Set the {prop} of {ref} to {v} {unit}.', f'[Change|Put|Adjust] the {prop} of {ref} to {v} {unit}.', f'Please set the {prop} of {ref} to {v} {unit}.', f'[Can|Could] you set the {prop} of {ref} to {v} {unit}?', f'The {prop} of {ref} should be {v} {unit}.',
                               f'!I would like the {prop} of {ref} to be {v} {unit}.'])
                value.setdefault(d, {})[prop] = f'{v} {unit}'
                reply = self.pick([f'Done. The {prop} of the {d} is now {v} {unit}.', f'Okay. The {prop} of the {d} is now {v} {unit}.'])
            turns += self.ask(q, reply)
        keys = [turns[-1][1].split('The ')[-1].rstrip('.')]
        facts = [(d, None) for d in state] + [(d, p) for d in value for p in value[d]]
        if self.chance(0.7):
            d, prop = self.r.choice(facts)
            t = 'it' if d == last and self.chance(0.4) else f'the {d}'
            extra, keys = self.query(t, d, prop, state.get(d) if prop is None else value[d][prop])
            turns += extra
        return turns, keys

    def query(self, ref, d, prop, value):
        """A question about a known state (prop None) or property, and its answer."""
        if prop is None:
            if self.chance(0.5):
                asked = value if self.chance(0.5) else OPP(value)
                q = self.pick([f'Is {ref} {asked}?', f'Is {ref} {asked} [now|at the moment|right now]?', f'Can you check [if|whether] {ref} is {asked}?', f'!Would you say that {ref} is {asked}?'])
                return self.ask(q, f'{"yes" if asked == value else "no"}, the {d} is {value}.'), [f'{"yes" if asked == value else "no"}, the {d} is {value}']
            q = self.pick([f'What is the state of {ref}?', f'What is the status of {ref}?', f'Tell me the state of {ref}.', f'How is {ref} now?' if 0 else f'What about {ref}?', f'!In what state is {ref}?'])
            return self.ask(q, f'the {d} is {value}.'), [f'the {d} is {value}']
        q = self.pick([f'What is the {prop} of {ref}?', f'What is the {prop} of {ref} now?', f'Tell me the {prop} of {ref}.', f'What {prop} does {ref} have?', f'Which {prop} does {ref} have [now|at the moment]?', f'How high is the {prop} of {ref}?', f'Do you know the {prop} of {ref}?', f'!At what {prop} is {ref}?', f'!Could you read me the {prop} of {ref}?'])
        return self.ask(q, f'the {prop} of the {d} is {value}.'), [f'the {prop} of the {d} is {value}']

    def reading(self):
        """A report of two to four facts in one turn and a question about one of them."""
        devices = self.gadgets(self.r.choice([1, 2, 2, 3, 4]))
        facts, lines = [], []
        for d in devices:
            if self.chance(0.5):
                st = self.r.choice(w.COMMANDS)[1]
                facts.append((d, None, st))
                lines.append(f'the {d} is {st}')
            else:
                prop, v, unit = self.quantity()
                facts.append((d, prop, f'{v} {unit}'))
                lines.append(self.pick([f'the {prop} of the {d} is {v} {unit}', f'the {d} has a {prop} of {v} {unit}']))
        report = self.r.choice(['. '.join(lines), listing(lines)]) + '.'
        kind = self.r.random()
        if kind < 0.12:
            q = self.pick(['[Give me a short report|Sum this up|Please write a report].', 'What is the state of everything?', '!Please sum up the state.'])
            return self.ask(f'{report} {q}', f'here is the report:\n' + '\n'.join(f'- {cap(self.fact(*f))}' for f in facts)), [d for d in devices]
        same = [f for f in facts if f[1] is None]
        if kind < 0.25 and len(same) > 1:
            st = self.r.choice(same)[2]
            which = [f'the {f[0]}' for f in same if f[2] == st]
            q = self.pick([f'Which device is {st}?', f'What is {st}?', f'Which one is {st}?', f'!Name what is {st}.'])
            return self.ask(f'{report} {q}', f'{listing(which)} {"is" if len(which) == 1 else "are"} {st}.'), which
        d, prop, value = self.r.choice(facts)
        (_, q), (_, reply) = self.query(f'the {d}', d, prop, value)[0]
        return [self.user(f'{cap(report)} {q}'), self.answer(reply)] if self.chance(0.7) else [('user', cap(report)), self.answer(self.pick(['Thank you for the report.', 'Okay, I will remember that.', 'Understood.'])), ('user', q), self.answer(reply)], [self.fact(d, prop, value).rstrip('.')]

    def fact(self, d, prop, value):
        return f'the {d} is {value}.' if prop is None else f'the {prop} of the {d} is {value}.'

    def limit(self):
        d = self.gadget()
        prop, _, unit = self.quantity()
        top = self.r.choice([10, 20, 100, 100, 100, 1000])
        x, y = self.r.sample(range(1, top), 2)
        low = self.chance(0.3)
        bound = 'lower limit' if low else 'limit'
        bad = y < x if low else y > x
        q = self.pick([f'The {bound} for the {prop} of the {d} is {x} {unit}, and it is at {y} {unit}. Is that [fine|okay|good|safe]?', f'The {prop} of the {d} is {y} {unit}. The {bound} is {x} {unit}. Is that [fine|okay|good|safe]?', f'The {d} has a {prop} of {y} {unit} and a {bound} of {x} {unit}. [Is this okay|What do you think|Is that a problem]?',
                       f'!Is {y} {unit} fine for the {prop} of the {d} if the {bound} is {x} {unit}?'])
        side = f'{y} {unit} is {"above" if y > x else "below"} the {bound} of {x} {unit}'
        first = ('yes. ' if bad else 'no. ') if 'problem' in q else '' if 'think' in q else ('no. ' if bad else 'yes. ')
        todo = f'Please {"raise" if low else "lower"} the {prop} of the {d}.' if bad else f'The {prop} of the {d} is fine.'
        return self.ask(q, f'{first}{side}. {todo}'), [side, todo]

    def wish(self):
        """A value without a device, or what bothers somebody in a room."""
        if self.chance(0.4):
            prop, v, unit = self.quantity()
            q = self.pick([f'Set the {prop} to {v} {unit}.', f'Please set the {prop} to {v} {unit}.', f'[Change|Put] the {prop} to {v} {unit}.', f'[Can|Could] you set the {prop} to {v} {unit}?', f'!I would like a {prop} of {v} {unit}.'])
            return self.ask(q, f'Done. The {prop} is now {v} {unit}.'), [f'the {prop} is now {v} {unit}']
        room = self.room()
        bad, todo = self.r.choice([('cold', 'turn up the heating'), ('hot', 'open a window or switch on the air conditioner'), ('dark', 'turn on the light'), ('bright', 'dim the light or close the blinds'), ('loud', 'close the door or lower the speed of the machines'),
                                   ('humid', 'switch on the dehumidifier'), ('dry', 'switch on the humidifier'), ('dusty', 'switch on the filter and clean the floor'), ('warm', 'lower the heating by two degrees')])
        q = self.pick([f'It is too {bad} {room}.', f'It is too {bad} {room}. What [should|can] I do?', f'It is so {bad} {room}!', f'What can I do when it is too {bad} {room}?', f'{room}, it is very {bad}.', f'!I find it too {bad} {room}.'])
        return self.ask(q, f'if it is too {bad} {room}, {todo}.'), [f'too {bad} {room}', todo]

    def unknown(self):
        d = self.gadget()
        prop = self.r.choice(w.QUANTITIES)[0]
        st = self.r.choice(w.COMMANDS)[1]
        if self.chance(0.6):
            q = self.pick([f'What is the {prop} of the {d}?', f'Tell me the {prop} of the {d}.', f'How high is the {prop} of the {d}?', f'!At what {prop} is the {d}?'])
            return self.ask(q, f'I do not know the {prop} of the {d} yet. Please tell me the value first.'), [f'the {prop} of the {d}']
        q = self.pick([f'Is the {d} {st}?', f'Is the {d} {st} right now?', f'Do you know if the {d} is {st}?', f'!Can you see whether the {d} is {st}?'])
        return self.ask(q, f'I do not know yet whether the {d} is {st}. Please tell me its state first.'), [f'the {d} is {st}']

    def schedule(self):
        d, r = self.gadget(), self.r
        when = self.pick([f'every day at {r.randint(0, 23)}:{r.choice(["00", "15", "30", "45", "05", "20"])}', f'at {r.randint(1, 12)} o\'clock', f'in {r.randint(2, 59)} minutes', f'every {r.choice("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())}', f'tomorrow at {r.randint(5, 22)}:{r.choice(["00", "30"])}', f'every {r.choice(["morning", "evening", "night", "hour"])}', f'in {r.randint(2, 9)} hours'])
        if self.chance(0.5):
            job = r.choice(w.ERRANDS)
            q = self.pick([f'Remind me to {job} {when}.', f'Please remind me to {job} {when}.', f'[Can|Could] you remind me to {job} {when}?', f'!I must {job} {when}. Please remind me.'])
            turns, keys = self.ask(q, f'okay, I will remind you to {job.replace("my", "your")} {when}.'), [job.replace('my', 'your'), when]
            follow = (self.pick([f'What should I do {when}?', f'What did I want to do {when}?', f'!What was it that I must do {when}?']), f'{when}, you should {job.replace("my", "your")}.')
        else:
            verb, st = r.choice(w.COMMANDS[:6])
            verb = self.pick([verb])
            q = self.pick([f'{verb} the {d} {when}.', f'{when}, {verb} the {d}.', f'Please {verb} the {d} {when}.', f'[Can|Could] you {verb} the {d} {when}?', f'!Make sure to {verb} the {d} {when}.'])
            turns, keys = self.ask(q, f'okay, I will {verb} the {d} {when}.'), [f'{verb} the {d}', when]
            follow = (self.pick([f'When will you {verb} the {d}?', f'When will you do it?', f'When will that be?', f'!At what time will you {verb} the {d}?']), f'I will {verb} the {d} {when}.')
        return (turns + self.ask(*follow) if self.chance(0.4) else turns), keys

    # -- people and things ---------------------------------------------------------------------------------------

    def comprehension(self):
        """Who has what and who is where, with one asked for."""
        n = self.r.randint(1, 4)
        people = self.names(n)
        if self.chance(0.5):
            things = []
            while len(things) < n:
                t = self.thing(0.6)
                if not any(t.split()[-1] in x for x in things):
                    things.append(t)
            lines = [f'{p} has {a(t)}' for p, t in zip(people, things)]
            i = self.r.randrange(n)
            p, t = people[i], things[i]
            if self.chance(0.5):
                q, reply = self.pick([f'Who has the {t.split()[-1]}?', f'Who has {a(t)}?', f'To whom does the {t} belong?', f'!Who is it that has the {t}?']), f'{p} has the {t}.'
                if 'has a' in q:
                    reply = f'{p} has {a(t)}.'
            else:
                q, reply = self.pick([f'What does {p} have?', f'What has {p} got?', f'Tell me what {p} has.', f'!Which thing does {p} have?']), f'{p} has {a(t)}.'
        else:
            spots = [self.room() for _ in people] if self.chance(0.6) else [f'in the {self.r.choice(w.SPOTS)}' for _ in people]
            spots = spots if len(set(spots)) == n else [f'in room {x}' for x in self.r.sample(range(1, 99), n)]
            lines = [f'{p} is {t}' for p, t in zip(people, spots)]
            i = self.r.randrange(n)
            p, t = people[i], spots[i]
            q, reply = (self.pick([f'Who is {t}?', f'!Which person is {t}?']), f'{p} is {t}.') if self.chance(0.4) else (self.pick([f'Where is {p}?', f'Where can I find {p}?', f'Do you know where {p} is?', f'!In which place is {p}?']), f'{p} is {t}.')
        report = self.r.choice(['. '.join(lines), listing(lines)]) + '.'
        return [self.user(f'{report} {q}'), self.answer(reply)], [reply.rstrip('.')]

    def memory(self):
        """Something the user tells and asks for later."""
        r = self.r
        n = self.name(0.25)[0]
        t = self.thing(0.3)
        kind = r.randrange(5)
        if kind == 0:
            tell, reply = self.pick([f'My name is {n}.', f'I am {n}.', f'Hello, my name is {n}.', f'Hi, I am called {n}.', f'!Good day, people call me {n}.']), f'Nice to meet you, {n}. How can I help you?'
            q, back = self.pick(['What is my name?', 'Do you remember my name?', 'Who am I?', '!Can you tell me what I am called?']), f'Your name is {n}.'
        elif kind == 1:
            animal = r.choice(w.BEINGS)
            tell, reply = self.pick([f'My {animal} is called {n}.', f'I have {a(animal)} named {n}.', f'!The name of my {animal} is {n}.']), f'{n} is a nice name for {a(animal)}.'
            q, back = self.pick([f'What is the name of my {animal}?', f'What is my {animal} called?', f'!How did I name my {animal}?']), f'Your {animal} is called {n}.'
        elif kind == 2:
            code, d = str(r.randint(100, 99999)), self.pick(['code', 'number', 'password', 'key']) + f' of the {self.gadget()}'
            tell, reply = self.pick([f'The {d} is {code}.', f'Remember that the {d} is {code}.', f'!Note this: the {d} is {code}.']), f'Okay, the {d} is {code}.'
            q, back = self.pick([f'What is the {d}?', f'Tell me the {d}.', f'!Which is the {d}?']), f'The {d} is {code}.'
        elif kind == 3:
            what = self.pick(['favourite toy', 'favourite thing', 'favourite word', 'best idea', 'gift'])
            tell, reply = self.pick([f'My {what} is the {t}.', f'!As {what} I choose the {t}.']), f'The {t} is a good choice.'
            q, back = self.pick([f'What is my {what}?', f'Do you remember my {what}?', f'!What did I say is my {what}?']), f'Your {what} is the {t}.'
        else:
            spot = self.room()
            tell, reply = self.pick([f'I put the {t} {spot}.', f'I left the {t} {spot}.', f'The {t} is {spot}.', f'!I have stored the {t} {spot}.']), f'Okay, the {t} is {spot}.'
            q, back = self.pick([f'Where is the {t}?', f'Where is my {t}?', f'Where did I leave the {t}?', f'!In which place is the {t}?']), f'The {t} is {spot}.'
        turns = self.ask(tell, reply)
        if self.chance(0.3):
            turns += self.r.choice([self.concept, self.device_what, self.smalltalk])()[0]
        return turns + self.ask(q, back), [back.rstrip('.')]

    def definition(self):
        """A made-up word explained, then asked for."""
        word = self.pseudo() if self.mode != 'names' else self.from_list(w.OBJECTS) + 'er'
        d = self.r.choice(k.DEVICES)
        t, m = self.thing(0.3), self.thing(0.3)
        does = self.pick([d[2], f'[cleans|paints|repairs|sorts|counts|packs|heats|cools|cuts|washes|folds|weighs] every {t}', f'turns {a(t)} into {a(m)}', f'[makes|finds|collects|sells|carries] {a(t)}', f'puts {a(t)} on {a(m)}'])
        kind = self.pick(['machine', 'device', 'robot', 'tool', 'person', 'animal'])
        n = a(word)
        q = self.pick([f'What does {n} do?', f'What is {n}?', f'What is the job of {n}?', f'!What would {n} do?'])
        reply = f'{n} is {a(kind)} that {does}.' if q.startswith('What is a') else f'{n} {does}.'
        lead = self.pick([f'{n} is {a(kind)} that {does}.', f'{n} is {a(kind)}. It {does}.', f'Let us say that {n} is {a(kind)} that {does}.'])
        return self.ask(f'{lead} {q}', reply), [reply.rstrip('.')]

    def echo(self):
        t = self.pick([self.thing(), self.name(0.3)[0], self.gadget(), f'the {self.thing()} of {self.name()[0]}', str(self.r.randint(10, 9999)), f'the {self.gadget()} is {self.r.choice(w.COMMANDS)[1]}', listing([self.noun() for _ in range(3)])])
        kind = self.r.randrange(3)
        if kind == 0:
            return [('user', self.pick([f'Repeat: {t}', f'Say "{t}".', f'Repeat after me: {t}', f'Say: {t}', f'!Please write this: {t}'])), self.answer(cap(t))], [t]
        x = self.thing()
        if kind == 1:
            return self.ask(self.pick([f'Write a sentence about {a(x)}.', f'Make a sentence with the word {x}.', f'!Use {x} in a sentence.']), self.pick([f'the {x} is [on the table|in the box|behind the door|very old|my favourite].', f'[yesterday|today] I [saw|found|bought] {a(x)}.'])), [x]
        y, z = self.noun(), self.noun()
        return self.ask(self.pick([f'I have {a(x)}, {a(y)} and {a(z)}. What do I have?', f'I bought {a(x)}, {a(y)} and {a(z)}. What did I buy?', f'I packed {a(x)}, {a(y)} and {a(z)}. What is in my bag?', f'!In my box are {a(x)}, {a(y)} and {a(z)}. What is in it?']), f'{a(x)}, {a(y)} and {a(z)}.'), [x, y, z]

    # -- talk ----------------------------------------------------------------------------------------------------

    def smalltalk(self):
        about = 'I am a small language model that comes with EdgeShard. My layers can run on several devices at once.'
        groups = [
            (['Hello', 'Hello!', 'Hi', 'Hi!', 'Hey', 'Hi there', 'Hello there!', 'Good morning!', 'Good morning', 'Good evening!', 'Good day!', 'hello', 'hi', 'hey there', 'Greetings!', 'Good afternoon', '!Hello, nice to see you.'], 'Hello! How can I help you? You can ask me about devices of a home or a factory, or for a short story.'),
            (['Who are you?', 'What are you?', 'Tell me about yourself.', 'Introduce yourself.', 'Who is this?', 'Who am I talking to?', 'Are you a robot?', 'Are you an AI?', 'Are you a language model?', 'What is your name?', 'Do you have a name?', 'Hello, who are you?', 'Which model are you?', 'What kind of model are you?', 'Are you human?', 'Are you a person?', 'Are you ChatGPT?', '!Please say who you are.', '!And who are you?'], about),
            (['What can you do?', 'How can you help me?', 'What can I ask you?', 'What do you know?', 'Help', 'Help me.', 'What are you good at?', 'What can you help me with?', 'What should I ask you?', 'Can you help me?', '!What are your skills?'], 'I can answer short questions about the devices of a home or a factory, remember what you tell me in this chat, and tell short stories.'),
            (['Where do you run?', 'Where are you?', 'Where do you live?', 'How do you run?', 'How do you work?', 'Do you run in the cloud?', 'On which device do you run?', 'Do you need the internet?', 'Are my data safe with you?', '!On what do you run?'], 'I run on your own devices. Each device holds some of my layers, and together they write this answer.'),
            (['How big are you?', 'How large are you?', 'How many parameters do you have?', 'How many layers do you have?', 'Are you a large model?', '!What is your size?'], 'I am a small model. I have eight layers and about four million parameters.'),
            (['Who made you?', 'Who built you?', 'Who trained you?', 'Where do you come from?', 'How were you made?', 'What were you trained on?', '!Who is your maker?'], 'I was trained by the EdgeShard project on text that the project writes itself.'),
            (['How are you?', 'How are you today?', 'How do you feel?', 'Are you okay?', 'How is it going?', 'What\'s up?', '!How do you do?'], 'I am fine, thank you. What can I do for you?'),
            (['Thank you.', 'Thanks!', 'Thank you very much.', 'Thanks a lot', 'thx', 'Great, thank you!', 'That helped, thanks.', '!Many thanks!'], 'You are welcome.'),
            (['Goodbye.', 'Bye!', 'See you later.', 'Good night!', 'I have to go now.', 'Bye bye', '!See you tomorrow.'], 'Goodbye, and have a nice day!'),
            (['Yes.', 'No.', 'Okay.', 'Good.', 'Fine.', 'Great!', 'Nice', 'Cool', '!Very good.'], 'Good. Is there anything else that I can do for you?'),
            (['Tell me a joke.', 'Do you know a joke?', 'Make me laugh.', '!A joke, please.'], 'Why did the robot go on holiday? It had to recharge its batteries.'),
            (['What is the weather like?', 'What time is it?', 'What day is it?', 'Will it rain today?', 'How warm is it outside?', '!Which date is it today?'], 'I cannot look outside or at a clock. I only know what you tell me in this chat.'),
        ]
        said, reply = self.r.choice(groups[:2]) if self.chance(0.35) else self.r.choice(groups)
        return [('user', self.pick(said)), self.answer(reply)], [reply[:20]]

    def fallback(self):
        n, x, p = self.name()[0], self.thing(), self.pseudo().capitalize()
        q = self.pick([f'What is the capital of [France|Italy|Japan|Peru|{p}|Spain|Germany|Kenya]?', f'Who won the [world cup|race|election|game] in [1990|2006|2014|2022]?', f'[Translate|Please translate] "{x}" into [French|German|Spanish|Latin].', 'Write a program in [Python|C|Java|Rust].', f'Who is the president of [France|{p}|the company|Brazil]?', f'How old is [{n}|the earth|the king]?',
                       f'Who wrote [the book|the song] {p}?', 'What is the meaning of life?', 'Solve this equation: [2x = 8|x + 4 = 9|3x - 1 = 5].', f'What is the price of {a(x)}?', 'Which [film|song|book] is the best?', f'When was {n} born?', 'How far is the [moon|sun]?', f'What happened in [1492|1789|1914|1969]?', f'Recommend [a film|a book|a restaurant|a hotel].', '!Who invented the [telephone|wheel]?', '!Tell me the news of today.'])
        return [('user', q), self.answer('I am sorry, I do not know that. I am a small model and know about devices of a home or a factory and short stories.')], ['sorry']

    def sums(self):
        x, y = self.r.randint(0, 12), self.r.randint(0, 12)
        if self.chance(0.5):
            return [('user', self.pick([f'What is {x} plus {y}?', f'What is {x} + {y}?', f'{x} + {y} = ?', f'How much is {x} plus {y}?', f'!Add {x} and {y}.'])), self.answer(f'{x} plus {y} is {x + y}.')], [f'is {x + y}']
        x, y = max(x, y), min(x, y)
        return [('user', self.pick([f'What is {x} minus {y}?', f'What is {x} - {y}?', f'How much is {x} minus {y}?', f'!Subtract {y} from {x}.'])), self.answer(f'{x} minus {y} is {x - y}.')], [f'is {x - y}']

    def lists(self):
        site = self.r.choice(['home', 'factory'])
        many = [d[0] for d in k.DEVICES if d[1] in (site, 'both')]
        n = self.r.choice([2, 3, 3, 3, 4])
        word = {2: 'two', 3: 'three', 4: 'four'}[n]
        chosen = [a(x) for x in self.r.sample(many, n)]
        where = {'home': '[in a home|at home|in a house]', 'factory': '[in a factory|at work in a factory|in a plant]'}[site]
        q = self.pick([f'Name {word} devices {where}.', f'[List|Tell me] {word} devices that you find {where}.', f'Which devices are {where}?', f'Give me {word} examples of devices {where}.', f'!What are {word} devices {where}?'])
        return self.ask(q, f'[For example|Here are some]: {listing(chosen)}.'.replace('[For example|Here are some]', self.r.choice(['For example', 'Here are some']))), [' and ']

    # -- stories -------------------------------------------------------------------------------------------------

    def being(self, named=None):
        """Somebody for a story; named: True for a first name, False for a kind of being, None for either."""
        if named or (named is None and self.chance(0.45)):
            n, g = self.name()
            child = ('girl' if g == 'f' else 'boy') if self.chance(0.7) else ('woman' if g == 'f' else 'man')
            long = f'a {self.r.choice(w.TRAITS) + " " if self.chance(0.3) else ""}{child} named {n}'
            asked = n if self.chance(0.6) else long
            return Who(a(long[2:]) if self.chance(0.5) or asked == long else n, n, g, asked if asked == n else a(long[2:]))
        noun = self.noun(w.BEINGS if self.mode == 'names' or not self.chance(0.06) else w.GADGETS + w.OBJECTS[:-w.HELD])
        noun = noun if not self.chance(0.3) else self.pair(w.TRAITS, w.BEINGS)
        base = noun.split()[-1]
        g = {'king': 'm', 'prince': 'm', 'queen': 'f', 'princess': 'f', 'witch': 'f', 'fairy': 'f', 'wizard': 'm'}.get(base) or (self.r.choice('fm') if base in ROLES else 'n')
        if self.chance(0.2):
            n, g2 = self.name()
            return Who(f'{a(noun)} named {n}', n, g if g in 'fm' and base not in ROLES else g2)
        return Who(a(noun), f'the {base}', g, a(noun))

    def story(self):
        """The sentences of a story and who and what is in it."""
        h, f, t = self.being(), self.being(), self.thing(0.45)
        while f.ref in h.intro or h.ref in f.intro or f.ref == h.ref:
            f = self.being()
        while t.split()[-1] in h.intro + f.intro:
            t = self.thing(0.45)
        p = self.r.choice(w.SPOTS)
        base = t if self.chance(0.1) else re.sub(f'^({"|".join(w.ADJECTIVES)}) ', '', t)
        prep = next((x for x in PREPOSITIONS if p.split()[-1] in PREPOSITIONS[x]), 'in')
        slots = dict(hv=h.ref if h.ref[:4] != 'the ' else 'my friend', h=h.ref, ah=h.intro, he=h.he, him=h.him, his=h.his, f=f.ref, af=f.intro, fe=f.he, fim=f.him, fis=f.his, o=f'the {base}', co=f'The {base}', on=base, ao=a(t), p=f'the {p}', inp=f'{prep} the {p}')
        parts = self.r.choice(s.OPENINGS) + self.r.choice(s.PLOTS) + ([self.r.choice(s.MORALS)] if self.chance(0.3) else [])
        text = ' '.join(one[:1].upper() + one[1:] if one[0] != '"' else one for one in (re.sub(r'\{(\w+)\}', lambda m: slots[m[1]], self.pick([x])) for x in parts))
        return text, h, f, t, p, base

    def story_plain(self):
        text = self.story()[0]
        return [('text', f'{text}')], []

    def story_chat(self):
        text, h, f, t, p, base = self.story()
        at = a(t)
        topic, keys = self.r.choice([(f'{h.asked}', [h]), (f'{h.asked} and {at}', [h, t]), (f'{h.asked} and {at}', [h, t]), (f'{h.asked} and {f.asked}', [h, f]), (f'{h.asked} and {f.asked}', [h, f]), (f'{at}', [t]), (f'{h.asked} who has {at}', [h, t]), (f'{h.asked}, {f.asked} and {at}', [h, f, t]),
                                     (f'{h.asked} in the {p}', [h]), (f'{h.asked} and the {base}', [h, base])])
        short = '[short |little |nice |]'
        q = self.pick([f'Tell me a {short}story about {topic}.', f'Tell me a {short}story about {topic}.', f'Tell me a story about {topic}.', f'[Write|Make up|Invent] a {short}story about {topic}.', f'[Can|Could] you tell me a {short}story about {topic}?', f'I want [a|to hear a] story about {topic}.', f'A {short}story about {topic}, please.',
                       f'Please tell [me|us] a {short}story about {topic}.', f'Give me a {short}story with {topic}.', f'Story about {topic}', f'Tell a bedtime story about {topic}.', f'Do you know a story about {topic}?', f'Write about {topic}.', f'I would like a story about {topic}.', f'!Let me hear a story about {topic}.', f'!Please write a tale about {topic}.'])
        if self.chance(0.08):
            q, keys = self.pick(['Tell me a story.', 'Tell me a short story.', 'Tell me another story.', 'Can you tell me a story?', 'I am bored, tell me a story.', 'A story, please.', '!I feel like hearing a story.']), []
        turns = [self.user(re.sub(r'\ba \[?', 'a ', q)), self.answer(text)]
        keys = [x.ref if isinstance(x, Who) else x for x in keys]
        if self.chance(0.35):
            kind = self.r.randrange(4)
            if kind == 0:
                turns += self.ask(self.pick(['Who is in the story?', 'Which characters are in the story?', 'Who was in it?', '!Name the characters.']), f'{h.ref} and {f.ref} are in the story.')
                keys = [h.ref, f.ref]
            elif kind == 1:
                turns += self.ask(self.pick([f'Who is the friend of {h.ref}?', f'Who was with {h.ref}?', f'What is the name of the friend?' if f.ref[:4] != 'the ' else f'Who is the friend?', f'!With whom was {h.ref}?']), f'the friend of {h.ref} is {f.ref}.')
                keys = [f.ref]
            elif kind == 2:
                turns += self.ask(self.pick(['Which object is in the story?', 'What thing is the story about?', 'Which thing is important in the story?', '!What is the object in the story?']), f'the story is about {at}.')
                keys = [t]
            else:
                turns += self.ask(self.pick(['What is the story about?', 'What was it about?', 'Sum up the story.', 'What was the story about?', '!In short, what happens?']), f'it is about {h.ref} and {f.ref}, and about {at}.')
                keys = [h.ref, f.ref, t]
        return turns, keys

    def poem(self):
        t = self.thing(0.5)
        q = self.pick([f'Write a [short |]poem about {a(t)}.', f'Can you write a poem about {a(t)}?', f'A poem about {a(t)}, please.', f'!Make a rhyme about {a(t)}.'])
        x, y = self.pick(['A {t} stood beside the door|and dreamed of days that were before.', 'The {t} was waiting in the rain|and hoped the sun would shine again.', 'I saw a {t} by the sea|and it was looking back at me.']), self.pick(['The night was calm, the moon was bright,|the {t} was sleeping in the light.', 'Then came a friend to say hello,|and off together they would go.', 'The {t} was happy, so was I,|beneath the blue and open sky.'])
        return [self.user(q), self.answer('\n'.join((x + '|' + y).replace('A {t}', cap(a(t))).replace('a {t}', a(t)).replace('{t}', t).split('|')))], [t]

    # -- documents -----------------------------------------------------------------------------------------------

    KINDS = {'device_what': 8, 'device_how': 8, 'device_problem': 8, 'device_pairs': 7, 'symptom': 7, 'advice': 6, 'concept': 3, 'conversation': 11, 'reading': 7, 'limit': 4, 'unknown': 2, 'wish': 3, 'schedule': 4,
             'comprehension': 8, 'memory': 6, 'definition': 4, 'echo': 4, 'smalltalk': 5, 'fallback': 1.5, 'sums': 1, 'lists': 1, 'story_chat': 12, 'story_plain': 5, 'poem': 0.7}

    def one(self, kind):
        """(turns, keys): keys are pieces of text that the last answer must have, in any case of letters."""
        self.fresh = self.used_held = False
        return getattr(self, kind)()

    def document(self):
        """One training document: a list of (role, text)."""
        kinds, weights = list(self.KINDS), list(self.KINDS.values())
        kind = self.r.choices(kinds, weights)[0]
        turns = self.one(kind)[0]
        if kind != 'story_plain':
            long = self.chance(0.04)
            while len(turns) < (28 if long else 8) and self.chance(0.95 if long else 0.22):
                more = self.r.choices(kinds, weights)[0]
                if not more.startswith(('story', 'unknown')):
                    turns = turns + self.one(more)[0]
            if self.chance(0.05):
                turns = [('system', self.r.choice(SYSTEM))] + turns
        return turns


def OPP(state):
    return OPPOSITE[state]


OPPOSITE = w.OPPOSITE
STARTS = set('What How Where Which Can Could Is Tell Give The My Our Set Please Turn Why Do Does'.split())
ROLES = set('giant knight pirate sailor farmer baker teacher doctor painter engineer technician gardener fisherman astronaut miller tailor clockmaker'.split())

if __name__ == '__main__':
    import sys
    writer = Writer(1, sys.argv[2] if len(sys.argv) > 2 else 'train')
    for kind in Writer.KINDS:
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 2):
            turns, keys = writer.one(kind)
            print(f'--- {kind} {keys}', *(f'{role}: {text}' for role, text in turns), sep='\n')
