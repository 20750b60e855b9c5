"""Open word lists. The last HELD entries of NAMES and OBJECTS never occur in training text."""

HELD = 12

GIRLS = ('Mia Anna Lily Emma Sara Nora Ella Ada Zoe Ruth Clara Ida Maya Lena Rosa Eva Julia Alice Grace Hana Vera Olga Nina Tara Kate Lucy Molly Amy Jane Mary '
         'Laura Helen Irene Paula Sofia Carla Diana Elena Fiona Greta Heidi Ivy Jenny Kira Leila Marta Naomi Olivia Petra Rita Stella Tina Ursula Wanda Yara Amina Bella '
         'Cora Daisy Edith Flora Gina Hazel Ines Joan Karin Lisa Mona Nadia Pia Rachel Susan Thea Una Violet Willa Zara '
         'Astrid Bianca Celia Dora Esther Freya Gloria Hilda Iris Jasmin Keiko Linnea').split()
BOYS = ('Tom Ben Max Leo Sam Tim Paul Jack Noah Finn Otto Emil Hugo Karl Oscar Peter Simon David Adam Felix Henry Ivan Jonas Lucas Mark Nick Omar Philip Robert '
        'Theo Victor Walter Yusuf Alex Bruno Carlos Daniel Erik Frank George Harry Ian Jakob Kevin Liam Martin Nils Owen Pedro Ralph Stefan Toby Uwe Vincent Will '
        'Aaron Boris Chen Dylan Edgar Fred Gustav Hans Igor Jim Kurt Luis Milo Nathan Oliver Pablo Rico Sven Ted Viktor Wesley Zeno '
        'Anton Basil Conrad Dario Elias Fabian Gregor Hector Isaac Joel Kenji Lorenz').split()
OBJECTS = ('lamp;kite;ball;drum;map;key;book;box;boat;clock;bell;cup;hat;coat;basket;bucket;ladder;rope;wheel;cart;lantern;mirror;painting;flute;violin;piano;ring;'
           'necklace;stone;shell;feather;flower;seed;apple;pear;cake;pie;cookie;sandwich;jar;bottle;spoon;blanket;pillow;scarf;glove;shoe;sock;umbrella;bag;letter;'
           'pen;pencil;brush;notebook;puzzle;doll;puppet;train;car;bicycle;scooter;sled;plane;rocket;balloon;magnet;compass;telescope;camera;radio;hammer;wrench;'
           'screwdriver;saw;shovel;broom;mop;candle;torch;battery;cable;screw;gear;spring;pump;fan;valve;sensor;robot toy;snow globe;music box;teapot;kettle;chair;'
           'table;bench;stool;tent;backpack;flag;coin;crown;statue;whistle;trumpet;guitar;button;ribbon;net;fishing rod;bridge;door;window;pocket watch;ticket;'
           'vase;carpet;marble;kettle drum;chess board;skateboard;hammock;wagon;pinwheel;accordion;kayak;thimble').split(';')
ADJECTIVES = ('red blue green yellow purple orange white black grey brown pink golden silver old new big small tiny large heavy light round square long short shiny '
              'dusty wooden broken strange magic beautiful simple quiet loud warm cold soft hard striped wet clean rusty lost torn bright dark empty crooked fancy').split()
TRAITS = 'brave little clever kind shy lazy curious old young happy hungry sleepy friendly careful grumpy gentle tiny proud lonely cheerful patient clumsy'.split()
BEINGS = ('robot;fox;bear;rabbit;mouse;cat;dog;owl;duck;frog;hedgehog;squirrel;bird;horse;cow;pig;sheep;goat;lion;tiger;elephant;monkey;turtle;snail;bee;ant;spider;'
          'dragon;fairy;giant;wizard;knight;king;queen;princess;prince;pirate;sailor;farmer;baker;teacher;doctor;painter;engineer;technician;gardener;fisherman;'
          'astronaut;ghost;witch;drone;whale;dolphin;crow;wolf;deer;penguin;parrot;badger;otter;'
          'camel;mole;lizard;heron;beaver;miller;tailor;clockmaker;hamster;moth;seal;unicorn').split(';')
SPOTS = ('garden;forest;park;market;village;kitchen;barn;school;library;workshop;factory;harbour;river;lake;beach;hill;mountain;meadow;town;castle;island;attic;cellar;'
         'field;station;playground;bakery;museum;cave;tower;farm;desert;valley;old mill;warehouse;office;hall;city;swamp;orchard').split(';')
ROOMS = ('kitchen;living room;bedroom;bathroom;hall;office;cellar;attic;garage;garden;dining room;guest room;laundry room;study;pantry;porch;shed;nursery;corridor;'
         'meeting room;lab;canteen;storage room;control room;paint shop;workshop;warehouse;server room;library;entrance;greenhouse;test room;lobby').split(';')
GADGETS = ('light;lamp;fan;heater;thermostat;radiator;blind;curtain;window;door;gate;door lock;oven;fridge;freezer;dishwasher;washing machine;dryer;coffee maker;kettle;'
           'television;speaker;radio;camera;alarm;sprinkler;vacuum robot;heat pump;boiler;air conditioner;router;printer;projector;screen;pump;conveyor;motor;valve;'
           'compressor;robot arm;crane;press;drill;lathe;mixer;oven;chiller;cooler;filter;tank;sensor;pressure sensor;temperature sensor;PLC;saw;welder;feeder;sorter;'
           'packing machine;labeller;scanner;lift;forklift;drone;mini PC;NAS;server;charger;wall box;inverter;generator;turbine;blower;burner;furnace;cutter;grinder;'
           'humidifier;dehumidifier;doorbell;smart plug;dimmer;ventilator;shredder;separator;centrifuge').split(';')
ERRANDS = ('call the doctor;water the plants;buy milk;feed the cat;check the filter;clean the oven;take out the trash;pick up the parcel;call the technician;order new seals;'
           'oil the chain;charge the phone;close the windows;empty the dryer;pay the bill;test the alarm;change the filter;lock the gate;write the report;read the meter;'
           'visit my aunt;bake a cake;wash the car;back up the files;walk the dog').split(';')

# property, unit, low, high
QUANTITIES = [('temperature', 'degrees', 5, 95), ('speed', 'rpm', 10, 3000), ('speed', 'percent', 5, 100), ('pressure', 'bar', 1, 40), ('brightness', 'percent', 1, 100),
              ('volume', 'percent', 1, 100), ('flow', 'liters per minute', 1, 300), ('level', 'percent', 1, 100), ('power', 'watts', 10, 4000), ('power', 'kilowatts', 1, 60),
              ('humidity', 'percent', 10, 95), ('position', 'millimeters', 1, 900), ('voltage', 'volts', 1, 400), ('current', 'amperes', 1, 64), ('weight', 'kilograms', 1, 900),
              ('timer', 'minutes', 1, 90), ('load', 'percent', 1, 100), ('vibration', 'millimeters per second', 1, 30)]

# command verbs, resulting state, its question form
COMMANDS = [('[turn on|switch on|power on|put on]', 'on'), ('[turn off|switch off|power off|shut off]', 'off'), ('[start|start up|run]', 'running'), ('[stop|halt]', 'stopped'),
            ('open', 'open'), ('[close|shut]', 'closed'), ('lock', 'locked'), ('unlock', 'unlocked'), ('[pause|hold]', 'paused'), ('[lift|raise]', 'up'), ('lower', 'down')]
OPPOSITE = {'on': 'off', 'off': 'on', 'running': 'stopped', 'stopped': 'running', 'open': 'closed', 'closed': 'open', 'locked': 'unlocked', 'unlocked': 'locked',
            'paused': 'running', 'up': 'down', 'down': 'up'}
