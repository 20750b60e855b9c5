"""Plots of the short stories. [a|b] is a choice; {h} the hero, {f} the friend, {o} the object, {p} the place.

Slots: {ah}/{af}/{ao} introduce ("a girl named Mia", "a red kite"), {h}/{f}/{o} refer back ("Mia", "the kite"); {he} {him} {his} are the
hero's pronouns and {fe} {fim} {fis} the friend's; {p} is "the garden" and {inp} "in the garden". A sentence starts with a capital by itself.
"""

OPENINGS = [
    ['Once upon a time, there was {ah} who lived [near|close to] {p}.', '{h} had a [good|dear|true] friend, {af}.'],
    ['Once upon a time, {ah} and {af} lived [near|not far from] {p}.'],
    ['[There was once|There once was] {ah}.', '{h} [often|always|sometimes] [played|met|walked] with {af}.'],
    ['{ah} and {af} were [good|best|old] friends.'],
    ['One [sunny|cold|quiet|windy|rainy|warm|bright] [morning|day|afternoon|evening], {ah} went to {p}.', '{af} [came along|went too|was there as well].'],
    ['[Long ago|Many years ago|A long time ago], {ah} lived [near|close to] {p}.', 'Every day {he} [met|talked to|visited] {af}.'],
    ['In a [small|quiet|far] [town|country|land], there lived {ah}.', '{his} best friend was {af}.'],
    ['It was a [sunny|cold|quiet|windy|rainy|warm] [morning|day|afternoon|evening], and {ah} was {inp}.', 'Soon {af} [came by|arrived|came to play].'],
]

PLOTS = [
    # lost and found
    ['[One day|That day|Soon], {h} [took|brought|carried] {ao} to {p}.', '[But then|But suddenly|A little later], {o} was gone.', '"[Oh no|Oh dear]! [Where is my {on}?|I have lost my {on}!]" [said|cried|called] {h}.',
     '{he} [looked|searched] [everywhere|in every corner|all day], but {he} could not find it.', '{f} [saw|noticed|heard] this and [came to help|wanted to help|began to search too].',
     '[At last|After a while|In the end], {f} found {o} [under a bench|behind a tree|in a bush|next to the path|under some leaves].', '{h} was [very|so] happy and [thanked|hugged] {f}.',
     '[From that day on|After that], {h} [always took good care of|never lost] {o}.'],
    # broken and repaired
    ['{h} had {ao} and [liked|loved] it very much.', '[But one day|One day|Then one morning], {o} [fell down and broke|broke into two pieces|stopped working].', '{h} was [sad|upset|unhappy] and began to cry.',
     '"[Do not worry|Do not be sad]," said {f}. "[We can fix it|We can repair it] together."', 'They [carried|took] {o} to {p} and [worked|tried] [all day|for an hour|until the evening].',
     '[With some glue and a bit of luck|With patience and care|Step by step], they [fixed|repaired|mended] {o}.', '[Now it was even better than before|It looked as good as new|It worked again].',
     '{h} [smiled|laughed] and said, "Thank you, [my friend|dear friend]!"', '[That evening|In the end], {h} [had learned|knew] that broken things can often be repaired.'],
    # sharing
    ['[One day|One morning], {h} found {ao} {inp}.', '"[I want it too|May I have it|Please let me have it]!" said {f}.', 'But {h} [did not want to share|held {o} tight|wanted to keep it].', '{f} was [sad|hurt|disappointed] and [went home|walked away|sat down alone].',
     '[Soon|After a while], {h} felt lonely, because {o} was no fun alone.', 'So {he} went to {f} and said, "[I am sorry|Please forgive me]. [Let us share it|It is for both of us]."', '{f} [smiled|was glad|laughed], and they [used|enjoyed|had fun with] {o} together.',
     '[They learned|That day they learned] that sharing makes friends [happy|happier].'],
    # a gift
    ['It was the birthday of {f}, and {h} wanted to give {fim} a present.', '{he} went to {p} to look for [something nice|something special|a gift].', '[There|Behind a wall|In a corner|On the ground] {he} [saw|found] {ao}.', '"[This is perfect|This is just right] for {f}," [thought|said] {h}.',
     '{h} [cleaned|wrapped up|polished] {o} and [took|brought|carried] it to {f}.', '{f} [opened {fis} eyes wide|jumped for joy|laughed with joy] when {fe} saw {o}.', '"[This is the best present of all|What a wonderful present]," said {f}. "Thank you, {hv}!"',
     'They [ate cake|sang songs|danced] until [the stars came out|it was dark|the moon rose].'],
    # storm
    ['{h} [carried|had] {ao} when [a storm came up|dark clouds came|the wind grew strong].', 'The wind [blew|roared] and the rain fell on {p}.', '{f} was [afraid|scared] and did not know [where to go|what to do].', '"[Come with me|Follow me|Stay close to me]!" called {h}.',
     '{he} used {o} to [keep the door shut|show the way|make a small roof].', 'They waited [side by side|close together] until the storm was over.', '[Then the sun came out|At last the sky was blue again], and a rainbow stood over {p}.', '"You were so brave," said {f}, and {h} [smiled|was proud].'],
    # a light in the dark
    ['One night, {h} [could not sleep|heard a sound|saw something strange].', '{he} [got up|went outside] and walked to {p}.', '[There|In the dark|Behind a tree] lay {ao}, and it [glowed|shone] [softly|like a star|in the moonlight].', '"[What is this|How strange]?" [whispered|asked] {h}.',
     '{he} [called|woke] {f}, and they [looked at|touched] {o} together.', 'Suddenly {o} [rose into the air|began to sing|lit up all of {p}].', 'They [watched|listened] [for a long time|in silence|with wonder].', 'In the morning {o} was [quiet|still] again, but {h} and {f} kept the secret.'],
    # lonely
    ['But {h} was [lonely|sad|often alone], and {his} only [treasure|thing] was {ao}.', '{he} [took|carried] {o} to {p} every day.', '[One day|One morning], {f} [asked|said], "[May I see your {on}|What a nice {on}! May I try it]?"', '{h} was [shy|surprised], but {he} nodded.',
     '{f} [looked at|held] {o} [carefully|gently] and [smiled|laughed].', '[Soon|After a while], the two [talked and laughed|told each other stories].', '[From then on|After that day], {h} was never [lonely|alone] again.'],
    # afraid, then brave
    ['{h} was afraid of [the dark|high places|deep water|loud noises].', 'One day, {f} [got stuck|was trapped|was lost] {inp}.', '"[Help|Please help me]!" [called|shouted] {f}.', '{h} [shook with fear|was very scared], but {he} [took a deep breath|thought of {his} friend].',
     '{he} [grabbed|took] {ao} and [ran|hurried] to {f}.', 'With the help of {o}, {h} [pulled {fim} out|brought {fim} home|showed {fim} the way].', '"You [saved|helped] me," said {f}. "[You are very brave|You are a real friend]."', '{h} [smiled|was proud], because {he} was not afraid any more.'],
    # contest
    ['There was a [big contest|great fair] {inp}, and {h} wanted to [win|take part].', '{he} [practised|worked] every day with {ao}.', '{f} [laughed and said|said], "[You will never win|That is too hard for you]."', 'But {h} did not give up.',
     'On the day of the contest, {h} [did {his} best|was very calm] and [everybody clapped|everybody cheered].', '{o} [worked perfectly|did not fail], and {h} won the first prize.', '"I was wrong," said {f}. "[You worked hard|You have earned it]."', '{h} [shared the prize with|forgave] {f}, and they [went home happy|celebrated together].'],
    # building
    ['{h} wanted to build [a little house|a small boat|a new machine|a bridge] {inp}.', '[For this|To do so] {he} needed {ao}.', '{he} asked {f}, "[Can you help me|Will you help me] to find one?"', '"Of course," said {f}, and they [looked|searched] together.', 'They found {o} [in an old shed|behind a door|in a dusty box].',
     'Then they [worked|hammered and measured] [all day|for three days|until it was done].', 'When it was [ready|finished], everybody [came to see it|was amazed].', '"[We make a good team|Together we can do anything]," said {h}.'],
    # the factory stands still
    ['One [morning|day], all the machines [at work|in the big factory] stood still.', 'Nobody knew [why|what to do].', '{h} [walked|looked] around and [saw|noticed] {ao} [between two wheels|under the conveyor|inside a pump].', '"[Look|Here it is]! {co} is in the way," said {h}.',
     '{f} [pressed|pushed] the stop button so that {h} could [reach in|work] safely.', '{h} [pulled|took] {o} out, and the machines [began to hum|started] again.', 'Everybody [cheered|clapped], and the two [took a break|had tea] {inp}.', '"[Safety first|A good eye is worth a lot]," said {f}.'],
    # magic wish
    ['[There|Then|One day], {h} found {ao} {inp}.', 'When {he} [touched|rubbed|lifted] it, a [soft|small|deep] voice said, "[You have one wish|Make one wish]."', '{h} [thought|thought about it] for a long time.', '{he} did not want [gold|a castle|fame].', '"I wish that {f} is [happy|well|never sad]," said {h}.',
     '[At once|In that moment], {f} [felt a warm light|began to smile|danced with joy].', '"[What happened|How is that possible]?" asked {f}, and {h} [told {fim} everything|showed {fim} {o}].', '{o} never [spoke|talked] again, but the two were [happy|content].'],
    # a strange noise
    ['[One night|One evening], a [strange|loud|funny] noise came from {p}.', '"[What is that|Did you hear that]?" [asked|whispered] {f}.', '{h} [took a torch|was curious] and went [to look|to see what it was].', '[There|In the corner|Behind a box] stood {ao}, and it [rattled|hummed|shook].',
     '{h} looked [closely|inside] and found [a small mouse|a loose screw|a little bird].', '{he} [helped|fixed] it, and the noise [stopped|was gone].', '"[It was nothing bad|There was no reason to be afraid]," {h} told {f}.', 'Then they both [laughed|slept well].'],
    # a journey
    ['{f} [was ill|was far away|needed help] and [asked for|wished for] {ao}.', '{h} [packed|took] {o} and set off at once.', 'The way was [long|steep|hard], and it led [over a hill|through deep snow|across a river] to {p}.', '{h} was [tired|cold|hungry], but {he} [went on|did not stop].',
     '[At last|In the evening], {he} [arrived|reached {f}].', '"You came all this way for me?" asked {f}.', '"[Of course|That is what friends do]," said {h} and gave {fim} {o}.', '{f} [soon felt better|was very grateful], and they [drank tea|talked all night].'],
    # a trade
    ['{h} had {ao}, but {he} [wanted|wished for] something [new|else].', '{he} went to {p} to trade it.', '"I will give you [a bag of nuts|a golden coin|a cake] for your {on}," said {f}.', '{h} [agreed|said yes] and [gave away|handed over] {o}.', '[But soon|The next day], {he} missed {o} [very much|a lot].',
     '{f} saw this and [brought {o} back|returned {o}].', '"[Keep it|It belongs to you]," said {f}. "[A friend is worth more|I only want you to be happy]."', '{h} learned that [old things can be dear|we often miss what we give away].'],
]

MORALS = ['And they lived happily ever after.', 'It was a day that they never forgot.', 'The end.', 'And so the day ended well.', 'They stayed friends for the rest of their lives.']
